"""A client is generated from what a running `edow api` says of itself, type-checked, and used against it."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from edow.client import Client
from edow.testing.processes import Fleet
from tests.docs import markdown
from tests.servers import checkers

FLOW = "tests.acceptance.client_flow"
PAGE = "docs/how-to/typed-client.md"
SHOWN = """\
order 1: True
cancelled
['order-3', 'order-2', 'order-1']
charge an unlucky amount
1 paid 12
NotFound - there is no execution 'order-9' in this store
"""
# The generator's own code passes *args on: what is not made of the document is not ours to type.
MYPY = "[mypy]\nstrict = true\n[mypy-edow_client.client]\nignore_errors = true\n"

pytestmark = pytest.mark.timeout(240)  # a dozen processes, one after the other


@pytest.fixture
def tools() -> dict[str, str]:
    """The environment in which `python -m` finds the generator and the validator."""
    return checkers()


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """The URL of `edow api` with an orchestrator and a worker behind it, and a token."""
    store = f"sqlite:///{folder}/store.db"
    async with Client(store) as client, Fleet([FLOW], store, folder) as fleet:
        token = await client.tokens().create("generated", "operate")
        services = [await fleet.spawn("api", ["-m", "edow", "api", "--port", "0"])]
        services += [await fleet.start("orchestrator"), await fleet.start("worker")]
        for service in services:
            await fleet.during(service.ready())
        [url] = re.findall(r"http://127\.0\.0\.1:\d+", services[0].log.read_text())
        yield url, token


async def python(*arguments: str, cwd: Path, env: dict[str, str]) -> str:
    """What it wrote, if it was content."""
    command = [sys.executable, *arguments]
    done = await asyncio.to_thread(subprocess.run, command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


async def test_a_generated_client_works_and_has_types(tmp_path: Path, tools: dict[str, str]) -> None:
    """The document is valid; the generator has no warning and leaves nothing out; mypy --strict takes the page's
    example, and it does what the page says: start, wait, list, signal, cancel, dead letters, and a problem.
    """
    [block] = [each for each in markdown.blocks(PAGE, "python") if "client" in each.words]
    (tmp_path / "use.py").write_text(block.text)
    (tmp_path / "mypy.ini").write_text(MYPY)
    async with served(tmp_path) as (url, token):
        document = httpx.get(f"{url}/openapi.json", trust_env=False)
        (tmp_path / "openapi.json").write_bytes(document.content)
        await python("-m", "openapi_spec_validator", "openapi.json", cwd=tmp_path, env=tools)
        options = ["--path", "openapi.json", "--meta", "none", "--output-path", "edow_client", "--fail-on-warning"]
        await python("-m", "openapi_python_client", "generate", *options, cwd=tmp_path, env=tools)
        operations = {each["operationId"] for path in document.json()["paths"].values() for each in path.values()}
        assert {each.stem for each in tmp_path.glob("edow_client/api/*/*.py")} - {"__init__"} == operations
        checked = ["--no-incremental", "--config-file", "mypy.ini", "use.py", "edow_client"]
        await python("-m", "mypy", *checked, cwd=tmp_path, env=dict(os.environ))
        assert await python("use.py", url, token, cwd=tmp_path, env=dict(os.environ)) == SHOWN
