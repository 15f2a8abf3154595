"""A million executions slow neither pages nor database. What is checked is what is read, not how long it takes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from playwright.async_api import expect

from edow.app import System
from edow.console.look import now_us
from edow.model.execution import Standing
from edow.store.contract import ExecutionFilter
from edow.store.sqlite.listing import few_begin_so, page_source
from tests.console.browser import PATIENCE_MS, visiting
from tests.console.conftest import Console, console_on

pytestmark = pytest.mark.timeout(300)
expect.set_options(timeout=PATIENCE_MS)

MILLION = 1_000_000
LAST = now_us()  # when the last of them started, however much later a test runs
# Of each hundred: one has failed, two run, one is parked, and the others have completed. Three workflows. Of each
# thousand one of those that run waits to be tried again, and one of those that are parked was paused.
FILL = """
WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO executions (number, id, workflow, shard, run, status, started_at, ended_at, events, correlation, trace,
    failure)
SELECT
    n, printf('order-%07d', n), CASE n % 3 WHEN 0 THEN 'fulfil' WHEN 1 THEN 'index' ELSE 'nightly' END, n % 4, 1,
    CASE n % 100 WHEN 1 THEN 'failed' WHEN 2 THEN 'running' WHEN 3 THEN 'running' WHEN 4 THEN 'parked'
    ELSE 'completed' END,
    :start + n * 1000, CASE WHEN n % 100 IN (2, 3, 4) THEN NULL ELSE :start + n * 1000 + 500 END, 3, '', '',
    CASE n % 1000 WHEN 2 THEN CAST('{"type":"OSError","message":"away"}' AS BLOB)
    WHEN 4 THEN CAST('{"type":"edow.Paused","message":"for now","kind":"paused"}' AS BLOB) END
FROM numbers
"""


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with a million executions; nobody has worked on them."""
    path = tmp_path_factory.mktemp("million") / "store.db"

    async def make() -> None:
        async with System(f"sqlite:///{path}"):
            pass

    asyncio.run(make())
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute(FILL.replace("?", str(MILLION)), {"start": LAST - MILLION * 1000})
        database.commit()
    return path


@pytest.fixture
async def console(million: Path) -> AsyncIterator[Console]:
    async with console_on(f"sqlite:///{million}", working=False) as made:
        yield made


@pytest.mark.parametrize(
    "where",
    [
        ExecutionFilter(),
        ExecutionFilter(workflow="fulfil"),
        ExecutionFilter(id_prefix="order-"),
        ExecutionFilter(id_prefix="order-0012"),
        ExecutionFilter(started_after=LAST - 10_000_000),
        ExecutionFilter(status=[Standing.RETRYING]),
        ExecutionFilter(status=[Standing.RETRYING, Standing.PAUSED], workflow="fulfil"),
        ExecutionFilter(status=[Standing.PAUSED], started_before=LAST - 100_000_000),
    ],
)
def test_a_page_of_a_million_reads_no_more_than_a_page(million: Path, where: ExecutionFilter) -> None:
    """Counted by SQLite itself: a page costs thousands of steps of its machine, and not millions."""
    steps = [0]

    def step() -> int:
        steps[0] += 1
        return 0

    with closing(sqlite3.connect(million)) as database:
        database.set_progress_handler(step, 1000)
        by_id = bool(where.id_prefix) and few_begin_so(database, where.id_prefix or "")
        source, parameters = page_source(where, by_id)
        found = database.execute(source, parameters).fetchall()
    assert len(found) == 101
    assert steps[0] < 500  # thousands of steps


async def test_pages_of_a_million_executions_in_a_browser(console: Console) -> None:
    """The list, its pages, searches and the overview; counting takes a small share of the time."""
    counts: list[tuple[float, float]] = []  # when each began, and how long it took
    read = console.system.store.file.read

    async def timed(job, **options):
        began = time.monotonic()
        answer = await read(job, **options)
        if isinstance(answer, dict) and "completed" in answer:
            counts.append((began, time.monotonic() - began))
        return answer

    console.system.store.file.read = timed
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.goto("/")
        await expect(page.locator("#tiles")).to_contain_text("20,000")
        for _ in range(5):
            await page.goto("/")
        await page.goto("/executions")
        for _ in range(3):
            await expect(page.locator("#rows tbody tr")).to_have_count(50)
            await page.get_by_role("link", name="Older").click()
        await expect(page.locator("#rows")).to_contain_text("order-0999850")
        await page.goto("/executions?status=failed&workflow=index")
        await expect(page.locator("#rows tbody tr")).to_have_count(50)
        await page.goto("/executions?status=retrying&status=paused")
        await expect(page.locator("#rows tbody tr")).to_have_count(50)
        await expect(page.locator("#rows")).to_contain_text("order-0999002")
        await page.goto("/executions?q=order-0500")
        await expect(page.locator("#rows")).to_contain_text("order-0500999")
        await page.goto("/executions?q=order")
        await expect(page.locator("#rows")).to_contain_text("order-1000000")
    assert counts
    assert all(later - began >= 25 * took for (began, took), (later, _) in pairwise(counts))
