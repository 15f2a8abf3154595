"""Where people meet the pages: `edow dev` says where its console is, and `edow demo` at a terminal opens its page."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shlex
import signal
import sys
from pathlib import Path

import httpx
import pytest

from edow.testing.polling import until

pytestmark = pytest.mark.timeout(150)

CODE = """
import edow

@edow.workflow
async def greet(name: str) -> str:
    return f"hello {name}"
"""


async def test_edow_dev_serves_the_console(tmp_path: Path) -> None:
    """On any free port when asked; it knows the code's workflows."""
    (tmp_path / "hello.py").write_text(CODE)
    command = [sys.executable, "-m", "edow", "dev", "hello.py", "--port", "0", "--store", f"sqlite:///{tmp_path}/s.db"]
    process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        said = b""
        while b"console at" not in said:
            said = await asyncio.wait_for(process.stderr.readline(), 60)
            assert said, "it has ended"
        address = re.search(r"http://\S+", said.decode())
        assert address is not None
        async with httpx.AsyncClient(base_url=address[0], timeout=30) as http:
            assert "Overview" in (await http.get("/")).text
            assert '<option value="greet">' in (await http.get("/executions")).text
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 60)


@pytest.mark.parametrize(("option", "opens"), [("--open", True), ("--no-open", False)])
async def test_the_demo_opens_its_page_at_a_terminal(tmp_path: Path, option: str, opens: bool) -> None:
    """With whatever browser the environment names; without it, the address is printed alone."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "module.py").write_text("import os\n")
    opened = tmp_path / "opened"
    browser = f"{shlex.quote(sys.executable)} -c 'import sys; open(sys.argv[1], \"w\").write(sys.argv[2])' {opened} %s"
    terminal, inside = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "edow", "demo", option, "--input", str(source)),
        env={**os.environ, "BROWSER": browser, "TMPDIR": str(tmp_path), "TERM": "dumb", "COLUMNS": "200"},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
    )
    os.close(inside)
    os.set_blocking(terminal, False)
    said = bytearray()

    async def is_said() -> bool:
        try:
            said.extend(os.read(terminal, 65_536))
        except BlockingIOError:
            pass
        return b"Ctrl-C ends it" in said and (not opens or opened.exists())

    try:
        await asyncio.wait_for(until(is_said), 90)
        address = re.search(rb"http://127\.0\.0\.1:\d+/demo", bytes(said))
        assert address is not None
        if opens:
            await asyncio.wait_for(until(lambda: _holds(opened, address[0].decode())), 30)
    finally:
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.wait(), 60)
        os.close(terminal)
    assert process.returncode == 0
    assert opened.exists() is opens


async def _holds(file: Path, text: str) -> bool:
    return file.read_text() == text
