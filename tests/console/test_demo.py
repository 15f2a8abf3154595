"""The live demo as people have it: real processes, a real browser, and the five buttons."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from edow.testing.polling import until
from tests.console.browser import PATIENCE_MS, visiting

pytestmark = pytest.mark.timeout(300)
expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def demo(folder: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """`edow demo --live` on any free port; its address, and the process. Stopped if it is still there at the end."""
    source = folder / "source"
    source.mkdir()
    for number in range(60):
        (source / f"module_{number:02}.py").write_text("import os\nfrom json import loads\n")
    command = [sys.executable, "-m", "edow", "demo", "--live", "--input", str(source)]
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    try:
        said = b""
        while b"/demo" not in said:
            said = await asyncio.wait_for(process.stderr.readline(), 60)
            assert said, "it has ended"
        address = re.search(rb"http://[\d.:]+", said)
        assert address is not None
        yield address[0].decode(), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), 60)


async def number(place: Locator) -> int:
    return int((await place.inner_text()).replace(",", ""))


async def grows(page: Page, selector: str, least: int) -> None:
    """Wait until the number in the page is at least that."""
    await page.wait_for_function(
        "([where, least]) => Number(document.querySelector(where).textContent.replaceAll(',', '')) >= least",
        arg=[selector, least],
    )


async def test_the_five_buttons_break_real_things_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each does what it says to real processes and sockets, all heals, and no effect is lost or applied twice."""
    async with demo(tmp_path) as (url, process), visiting(url) as visitor:
        page = visitor.page
        await page.goto("/demo")
        await grows(page, "#applied", 20)
        log, processes = page.locator("#happenings"), page.locator("#processes")

        before = await pids(page)
        await page.get_by_role("button", name="Kill a worker").click()
        await expect(log).to_contain_text("kill -9 worker 1")
        await expect(log).to_contain_text("started worker 4")
        await expect(page.locator("#recovery")).to_contain_text("backlog drained")
        await expect(log).to_contain_text("recovered")
        assert len(before - await pids(page)) == 1

        await page.get_by_role("button", name="Duplicate every message").click()
        await expect(page.get_by_role("button", name="Stop duplicating")).to_be_visible()
        applied = await number(page.locator("#applied"))
        await grows(page, "#doubled", 50)
        await grows(page, "#applied", applied + 20)

        await page.get_by_role("button", name="Kill the orchestrator").click()
        await expect(log).to_contain_text("kill -9 orchestrator 1")
        await expect(log).to_contain_text("started orchestrator 2")
        await expect(page.locator("#recovery")).to_contain_text("the orchestrator was killed")
        await expect(page.locator("#recovery .past")).to_have_count(3)
        await page.get_by_role("button", name="Stop duplicating").click()

        letters = await number(page.locator("#letters"))
        await page.get_by_role("button", name="Poison one message").click()
        await grows(page, "#letters", letters + 1)

        await page.get_by_role("button", name="Take the payment API down").click()
        await expect(processes).to_contain_text("refuses")
        await expect(page.locator("#recovery")).to_contain_text("still broken")
        failed = await number(page.locator("#failed-attempts"))
        await grows(page, "#failed-attempts", failed + 5)
        await page.get_by_role("button", name="Bring the payment API back").click()
        await expect(processes).not_to_contain_text("refuses")
        await expect(page.locator("#recovery .past")).to_have_count(3)

        await expect(page.locator("#twice")).to_have_text("0")
        await expect(page.locator("#lost-effects")).to_have_text("0")
        assert visitor.complaints == []
        running = await pids(page)
        process.send_signal(signal.SIGINT)
        said, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0
        assert "effects lost: 0    effects applied twice: 0" in said.decode()
        assert [pid for pid in running if Path(f"/proc/{pid}").exists()] == []


async def test_whoever_kills_the_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    """What it has started ends by itself."""
    async with demo(tmp_path) as (url, process), httpx.AsyncClient(base_url=url, timeout=30) as http:
        running = [int(pid) for pid in re.findall(r'pid">(\d+)<', (await http.get("/demo")).text)]
        assert len(running) == 4
        process.kill()

        async def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in running)

        await asyncio.wait_for(until(gone, 0.1), 60)


async def test_a_press_without_the_token_does_nothing(tmp_path: Path) -> None:
    """The token is made anew for each run, and is in the page alone."""
    async with demo(tmp_path) as (url, _), httpx.AsyncClient(base_url=url, timeout=30) as http:
        for token in ("", "wrong"):
            answer = await http.post("/demo/kill-worker", data={"token": token})
            assert answer.status_code == 403
        page = (await http.get("/demo")).text
        assert "kill -9 worker" not in page
        token = re.search(r'name="token" value="([^"]+)"', page)
        assert token is not None
        assert (await http.post("/demo/none", data={"token": token[1]})).status_code == 400
        assert (await http.post("/demo/rate", data={"token": token[1], "rate": "9999"})).status_code == 400
        foreign = {"Origin": "http://evil.example"}
        assert (await http.post("/demo/poison", data={"token": token[1]}, headers=foreign)).status_code == 403


async def pids(page: Page) -> set[int]:
    return {int(text) for text in await page.locator("#processes td.pid").all_inner_texts()}
