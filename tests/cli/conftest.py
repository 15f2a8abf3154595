"""A command line in this process: exit code, stdout and stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edow.cli import main

SHOP = """
from dataclasses import dataclass

import edow


@dataclass
class Order:
    number: int
    item: str = "book"


@edow.task(retry=edow.Retry(attempts=2, initial="1ms"), exhausted="park")
async def charge(number: int, amount: int = 1) -> str:
    if amount == 13:
        raise ValueError("unlucky amount")
    return f"paid {number}"


@edow.workflow
async def fulfil(order: Order, gift: bool = False) -> dict[str, object]:
    edow.attributes(item=order.item)
    return {"receipt": await charge(order.number), "gift": gift}


@edow.workflow
async def unlucky(number: int) -> str:
    return await charge(number, 13)


@edow.workflow
async def patient(name: str = "go") -> str:
    return await edow.wait_signal(name, str)


@edow.workflow
async def failing() -> None:
    raise LookupError("nothing there")
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, without settings from outside."""
    monkeypatch.chdir(tmp_path)
    for name in ("EDOW_STORE", "EDOW_TRANSPORT", "EDOW_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def shop(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with tasks and workflows, named anew for each test: modules are imported once per process."""
    name = f"shop_{abs(hash(str(place)))}.py"
    (place / name).write_text(SHOP)
    return name


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str) -> Result:
        code = main(words)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
