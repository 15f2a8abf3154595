"""What is drawn stays where it belongs, however narrow the window is, and is to be seen, however short it was."""

from __future__ import annotations

from edow.console.look import now_us
from edow.kpi.figures import Figures
from edow.kpi.meter import Meter
from edow.monitor.keeper import Keeper
from edow.testing.polling import until
from tests.console import flow
from tests.console.browser import visiting
from tests.console.conftest import Console

BEYOND = """([inner, outer]) => {
  const right = each => each.getBoundingClientRect().right;
  return Math.max(...[...document.querySelectorAll(inner)].map(right)) - right(document.querySelector(outer));
}"""  # by how much the one goes beyond the other, in pixels


async def test_failed_attempts_are_seen_and_listed(console: Console) -> None:
    """Also when they took next to nothing of the time; on a phone the bars do not leave their card."""
    handle = await console.client.start(flow.broken.with_options(id="bad"), "x")

    async def parked() -> bool:
        return (await handle.describe()).status == "parked"

    await until(parked, 0.05)
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.set_viewport_size({"width": 390, "height": 844})
        await page.goto("/executions/bad")
        assert await page.evaluate(BEYOND, ["#timeline .bars svg", "#timeline"]) <= 0
        failed = page.locator("#timeline rect.bar-failed")
        assert await failed.count() == 2
        assert await failed.first.evaluate("each => parseFloat(getComputedStyle(each).strokeWidth)") >= 3
        attempts = await page.locator("#timeline .attempt").all_inner_texts()
        assert [text.partition(" failed")[0] for text in attempts] == ["attempt 1", "attempt 2"]
        assert all("invalid literal" in text for text in attempts)
        history = await page.locator("#history").inner_text()
        assert '"retry_at":"20' in history.replace(" ", "")
        assert '"started_at":1' not in history.replace(" ", "")


async def test_the_table_of_tasks_fits(console: Console) -> None:
    """With every figure that there is, at the width of a small laptop."""
    figures = Figures()
    workflow = figures.workflow("fulfil_an_order")
    workflow.started, workflow.completed = 50_000, 49_000
    task = workflow.task("charge_the_customer")
    task.completed, task.failed, task.retried, task.letters = 123_456, 1234, 12_345, 123
    for each in (task.queue, task.run, task.back):
        each.add([12_345, 1_234_567])
    await Keeper(console.system.store, Meter(), "host:1:a").flush(now_us(), figures)
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.set_viewport_size({"width": 1280, "height": 800})
        await page.goto("/performance?window=15m")
        assert await page.locator("#tasks tbody tr").count() == 1
        assert await page.evaluate(BEYOND, ["#tasks table", "#tasks"]) <= 0
