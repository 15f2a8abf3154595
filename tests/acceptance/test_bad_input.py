"""Bad input at every entry, through the real command: a clear error, an exit code, and nothing lost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.acceptance.commands import edow_command

CODE = """
import asyncio
import socket
import urllib.request

import edow


class Opaque:
    pass


@edow.task
async def opaque() -> object:
    return Opaque()


@edow.task
async def long() -> str:
    return "x" * 9_000_000


@edow.task
async def other_type() -> int:
    return "seven"


@edow.workflow
async def opens_a_socket() -> None:
    socket.create_connection(("127.0.0.1", 9))


@edow.workflow
async def opens_a_stream() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


@edow.workflow
async def opens_a_page() -> None:
    urllib.request.urlopen("http://127.0.0.1:9/")


@edow.workflow
async def opens_a_file() -> str:
    with open(__file__) as file:
        return file.read()


@edow.workflow
async def returns_an_object() -> object:
    return Opaque()


@edow.workflow
async def returns_another_type() -> int:
    return "seven"


@edow.workflow
async def returns_too_much() -> str:
    return "x" * 3_000_000


@edow.workflow
async def task_returns_an_object() -> object:
    return await opaque()


@edow.workflow
async def task_returns_another_type() -> int:
    return await other_type()


@edow.workflow
async def task_returns_too_much() -> str:
    return await long()


@edow.workflow
async def takes(number: int) -> int:
    return number
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "code.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with one accepted execution, which must still be there at the end."""
    found = f"sqlite:///{tmp_path}/edow.db"
    assert edow_command("start", "takes", "--input", '{"number": 7}', "--id", "seven", "--store", found).returncode == 0
    return found


def refused(*words: str, said: str) -> None:
    """One clear error line that says this, exit code 1, and nothing on stdout."""
    run = edow_command(*words)
    assert (run.returncode, run.stdout) == (1, ""), run
    errors = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert "internal error" not in run.stderr


def listed(url: str) -> dict[str, str]:
    """Status by id."""
    run = edow_command("list", "--json", "--store", url)
    return {row["id"]: row["status"] for row in json.loads(run.stdout)}


@pytest.mark.parametrize(
    ("workflow", "said"),
    [
        ("opens_a_socket", "ForbiddenInWorkflow"),
        ("opens_a_stream", "ForbiddenInWorkflow"),
        ("opens_a_page", "ForbiddenInWorkflow"),
        ("opens_a_file", "ForbiddenInWorkflow"),
        ("returns_an_object", "Opaque"),
        ("returns_another_type", "return annotation"),
        ("returns_too_much", "over the limit"),
        ("task_returns_an_object", "Opaque"),
        ("task_returns_another_type", "return annotation"),
        ("task_returns_too_much", "over the limit"),
    ],
)
def test_what_a_workflow_must_not_do_is_told(code: Path, url: str, workflow: str, said: str) -> None:
    """It fails with the reason, is kept as failed, and takes no other execution with it."""
    refused("run", f"{code}:{workflow}", "--id", "bad", "--store", url, said=said)
    assert listed(url)["bad"] == "failed"
    run = edow_command("run", f"{code}:takes", "--input", "7", "--id", "seven", "--store", url)
    assert (run.returncode, run.stdout) == (0, "7\n")


def test_an_unknown_workflow_waits_for_its_code(code: Path, url: str) -> None:
    """Nobody knows it, so it is parked rather than lost, and goes on when its code is there."""
    assert edow_command("start", "later", "--id", "later", "--store", url).returncode == 0
    edow_command("run", f"{code}:takes", "--input", "7", "--id", "seven", "--store", url)
    assert listed(url) == {"seven": "completed", "later": "parked"}
    code.write_text(CODE + "\n\n@edow.workflow\nasync def later() -> int:\n    return 1\n")
    assert edow_command("resume", "later", "--store", url).returncode == 0
    run = edow_command("run", f"{code}:later", "--id", "later", "--store", url)
    assert (run.returncode, run.stdout) == (0, "1\n"), run.stderr


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('{"number": ', "not JSON"),
        ("{'number': 7}", "not JSON"),
        ('{"number": "seven"}', "number"),
        ('{"nummer": 7}', "Expected `int`"),
        ("[1, 2]", "takes"),
        ("@FOLDER/nowhere.json", "cannot be read"),
        ("@FOLDER", "cannot be read"),
        ("@FOLDER/long.json", "bytes"),
    ],
)
def test_bad_input_of_a_run_is_told(code: Path, url: str, given: str, said: str) -> None:
    """Before anything is stored."""
    (code.parent / "long.json").write_text(json.dumps({"number": "7" * 17_000_000}))
    given = given.replace("FOLDER", str(code.parent))
    refused("run", f"{code}:takes", "--input", given, "--id", "bad", "--store", url, said=said)
    assert listed(url) == {"seven": "running"}


def test_wrong_types_by_name_fail_the_execution(code: Path, url: str) -> None:
    """`edow start` has no code to check against, so whoever has it says what is wrong."""
    words = ("start", "takes", "--input", '{"number": "seven"}', "--id", "bad", "--store", url)
    assert edow_command(*words).returncode == 0
    refused("run", f"{code}:takes", "--input", "7", "--id", "bad", "--store", url, said="number")
    assert listed(url)["bad"] == "failed"


@pytest.mark.parametrize("words", [("worker", "CODE"), ("orchestrator", "CODE"), ("run", "CODE:takes", "--input", "7")])
def test_databases_of_different_versions_are_told(code: Path, url: str, words: tuple[str, ...]) -> None:
    """A transport newer than this release stops the process before it touches the store."""
    newer = code.parent / "transport.db"
    transport = f"sqlite:///{newer}"
    base = ("run", f"{code}:takes", "--input", "1", "--store", f"sqlite:///{code.parent}/other.db")
    assert edow_command(*base, "--transport", transport).returncode == 0
    with closing(sqlite3.connect(newer)) as connection, connection:
        connection.execute("UPDATE edow_schema SET version = 9999")
    filled = [word.replace("CODE", str(code)) for word in words]
    refused(*filled, "--store", url, "--transport", transport, said="9999")
    assert listed(url) == {"seven": "running"}
