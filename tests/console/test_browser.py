"""The console in a real browser: live pages, every action, the keyboard, both themes, and scripts that must not run."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import expect

from edow.errors import WorkflowCancelled, WorkflowTerminated
from edow.model.execution import Status
from edow.store.contract import DeadLetterFilter
from edow.testing.polling import until
from tests.console import flow
from tests.console.browser import PATIENCE_MS, visiting
from tests.console.conftest import Console

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=PATIENCE_MS)

EVIL = "</pre><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"


async def test_the_overview_shows_what_happens_while_it_is_open(anywhere: Console) -> None:
    """Without being loaded again, and with nothing asked of any other server."""
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/")
        await expect(page.get_by_role("heading", name="Overview")).to_be_visible()
        await expect(page.locator("#failed")).to_contain_text("Nothing has failed")
        handle = await anywhere.client.start(flow.refused.with_options(id="no-luck"), "x")
        with pytest.raises(Exception, match="no: x"):
            await handle.result()
        await expect(page.locator("#failed")).to_contain_text("no-luck")
        await expect(page.locator("#health")).to_contain_text("Making progress")
        assert visitor.complaints == []
        assert {url.split("/")[2] for url in visitor.asked} == {anywhere.url.split("/")[2]}


async def test_executions_are_found_by_keyboard(console: Console) -> None:
    """A slash goes to the search, and everything else works with Tab, Space and Enter."""
    for name in ("alpha-1", "alpha-2", "beta-1"):
        await (await console.client.start(flow.fan_out.with_options(id=name), 1)).result()
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.goto("/executions")
        await page.keyboard.press("Tab")
        await expect(page.locator(".skip")).to_be_focused()
        await page.keyboard.press("/")
        await expect(page.get_by_label("Id begins with")).to_be_focused()
        await page.keyboard.type("alpha")
        await page.keyboard.press("Enter")
        await expect(page).to_have_url(re.compile("q=alpha"))
        await expect(page.locator("#rows tbody tr")).to_have_count(2)
        await page.get_by_label("failed").focus()
        await page.keyboard.press("Space")
        await page.keyboard.press("Enter")
        await expect(page.locator("#rows")).to_contain_text("No executions match")
        await page.get_by_role("link", name="Clear").click()
        await page.get_by_label("before (UTC)").fill("2020-01-01T00:00")
        await page.keyboard.press("Enter")
        await expect(page.locator("#rows")).to_contain_text("No executions match")
        await page.get_by_role("link", name="Clear").click()
        await page.get_by_role("link", name="beta-1").focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="beta-1")).to_be_visible()
        assert visitor.complaints == []


async def test_pages_of_a_list_follow_each_other(console: Console) -> None:
    """Older, and back to the newest."""
    await console.client.start_many(flow.fan_out, [(0,)] * 120, [f"many-{number:03}" for number in range(120)])
    async with visiting(console.url) as visitor:
        page, seen = visitor.page, set()
        await page.goto("/executions?workflow=fan_out")
        for rows in (50, 50, 20):
            await expect(page.locator("#rows tbody tr")).to_have_count(rows)
            seen |= set(await page.locator("#rows td.id").all_inner_texts())
            if rows == 50:
                await page.get_by_role("link", name="Older").click()
        assert len(seen) == 120
        await page.get_by_role("link", name="Newest").click()
        await expect(page.locator("#rows tbody tr")).to_have_count(50)


async def test_one_execution_is_signalled_and_goes_on_before_our_eyes(anywhere: Console) -> None:
    """The form says what is wrong with a value, and the page shows the end as it comes."""
    await anywhere.client.start(flow.order.with_options(id="one"), "anvil")
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/executions/one")
        await expect(page.locator("#timeline")).to_contain_text("reserve")
        await page.get_by_text("Signal…").click()
        await expect(page.get_by_label("Name")).to_be_focused()
        await page.get_by_label("Name").fill("approved")
        await page.get_by_label("Value (JSON)").fill("yes")
        await page.get_by_role("button", name="Send signal").click()
        await expect(page.locator("#act-signal label:has(textarea) + [role=alert]")).to_contain_text("no JSON")
        await expect(page.get_by_label("Value (JSON)")).to_be_focused()
        await expect(page.get_by_label("Value (JSON)")).to_have_value("yes")
        await expect(page.get_by_label("Name")).to_have_value("approved")
        await page.get_by_label("Value (JSON)").fill("true")
        await page.get_by_role("button", name="Send signal").click()
        await expect(page.locator(".say.ok")).to_contain_text("signal was sent")
        await expect(page.locator("#facts .badge")).to_have_text("completed")
        await expect(page.locator("#result")).to_contain_text("anvil: sent")
        await expect(page.locator("#history")).to_contain_text("signal_received")
        await expect(page.locator("#actions details")).to_have_count(0)


async def test_executions_are_cancelled_and_terminated_also_without_scripts(anywhere: Console) -> None:
    """Forms are forms; the reason is kept."""
    for name in ("stop", "end"):
        await anywhere.client.start(flow.order.with_options(id=name), "anvil")
    async with visiting(anywhere.url, java_script_enabled=False) as visitor:
        page = visitor.page
        for name, title, button in (
            ("stop", "Cancel…", "Cancel the execution"),
            ("end", "Terminate…", "Terminate the execution"),
        ):
            await page.goto(f"/executions/{name}")
            await page.locator("summary", has_text=title).click()
            await page.locator("details[open]").get_by_label("Reason").fill("enough of it")
            await page.get_by_role("button", name=button).click()
            await expect(page.locator(".say.ok")).to_be_visible()
    for name, status in (("stop", Status.CANCELLED), ("end", Status.TERMINATED)):
        with pytest.raises(Exception, match="enough of it"):
            await anywhere.client.get(name).result(timeout=30)
        assert (await anywhere.client.get(name).describe()).status is status


async def test_an_execution_is_paused_and_resumed(anywhere: Console) -> None:
    """The reason is there while it is paused, and a signal that came meanwhile is not lost."""
    await anywhere.client.start(flow.order.with_options(id="one"), "anvil")
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/executions/one")
        await page.get_by_text("Pause…").click()
        await page.locator("#act-pause").get_by_label("Reason").fill("stock-taking")
        await page.get_by_role("button", name="Pause the execution").click()
        await expect(page.locator("#facts .badge")).to_have_text("paused")
        await expect(page.locator("#facts")).to_contain_text("stock-taking")
        await anywhere.client.get("one").signal("approved", True)
        await page.get_by_role("button", name="Resume").click()
        assert await anywhere.client.get("one").result(timeout=60) == "anvil: sent"
        await expect(page.locator("#facts .badge")).to_have_text("completed")


async def test_no_script_runs_from_data(console: Console) -> None:
    """Whatever a payload holds, neither when the page is loaded nor when it is brought up to date."""
    await console.client.start(flow.order.with_options(id="<img src=x onerror=alert(1)>"), EVIL)
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.goto("/executions")
        await page.get_by_role("link", name="<img").click()
        await expect(page.locator("#input")).to_contain_text("<script>")
        await console.client.get("<img src=x onerror=alert(1)>").signal("approved", True)
        await expect(page.locator("#result")).to_contain_text("<script>")
        assert "owned" not in await page.title()
        assert await page.locator("main img, main script").count() == 0
        assert visitor.complaints == []


async def test_the_theme_follows_the_system_and_the_switch(console: Console) -> None:
    """And the choice is kept from page to page."""
    ground = "getComputedStyle(document.body).backgroundColor"
    async with visiting(console.url, color_scheme="dark") as visitor:
        page = visitor.page
        await page.goto("/")
        dark = await page.evaluate(ground)
        await page.get_by_role("button", name="Dark theme").click()
        light = await page.evaluate(ground)
        assert dark != light
        await expect(page.get_by_role("button", name="Dark theme")).to_have_attribute("aria-pressed", "false")
        await page.goto("/executions")
        assert await page.evaluate(ground) == light


async def test_a_small_screen_needs_no_scrolling_sideways(console: Console) -> None:
    """Wide tables scroll by themselves."""
    await (await console.client.start(flow.fan_out.with_options(id="one"), 3)).result()
    async with visiting(console.url, viewport={"width": 390, "height": 800}) as visitor:
        for path in ("/", "/executions", "/executions/one"):
            await visitor.page.goto(path)
            wide = await visitor.page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, path


async def test_a_small_screen_shows_where_one_is_and_stays_where_one_has_scrolled(console: Console) -> None:
    """The current page is in sight in the navigation, the theme can be chosen, and live updates move no table."""
    await console.client.start(flow.order.with_options(id="one"), "anvil")
    async with visiting(console.url, viewport={"width": 390, "height": 800}) as visitor:
        page = visitor.page
        await page.goto("/audit")
        await expect(page.get_by_role("link", name="Audit log")).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Dark theme")).to_be_in_viewport()
        await page.goto("/executions")
        await page.locator("#rows .scroll").evaluate("each => each.scrollTo(90, 0)")
        await console.client.start(flow.order.with_options(id="two"), "anvil")
        await expect(page.locator("#rows tbody tr")).to_have_count(2)
        assert await page.locator("#rows .scroll").evaluate("each => each.scrollLeft") == 90
        assert visitor.complaints == []


async def test_what_can_be_used_has_a_name(anywhere: Console) -> None:
    """For people who hear the page: one main landmark, one heading of the first kind, and no nameless control."""
    await anywhere.client.start(flow.order.with_options(id="one"), "anvil")
    nameless = """[...document.querySelectorAll('a, button, input:not([type=hidden]), select, textarea, summary')]
        .filter(each => !(each.textContent.trim() || each.getAttribute('aria-label') || each.labels?.length))
        .map(each => each.outerHTML)"""
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        for path in (
            "/",
            "/executions",
            "/executions/one",
            "/dead-letters",
            "/schedules",
            "/events",
            "/audit",
            "/jobs",
            "/topics",
            "/performance",
            "/processes",
            "/login",
        ):
            await page.goto(path)
            assert await page.evaluate(nameless) == [], path
            assert await page.locator("main").count() == 1
            assert await page.locator("h1").count() == 1
            assert await page.get_by_role("navigation", name="Console").count() == 1


async def parked(console: Console, *texts: str) -> list[str]:
    """Executions that wait for their dead letters; the ids of these."""
    for number, text in enumerate(texts):
        await console.client.start(flow.broken.with_options(id=f"broken-{number}"), text)
    where = DeadLetterFilter(task="parse")

    async def all_there() -> bool:
        return len(await console.client.dead_letters(where)) == len(texts)

    await asyncio.wait_for(until(all_there), 60)
    return [letter.id for letter in await console.client.dead_letters(where)]


async def test_a_dead_letter_is_edited_and_redriven(anywhere: Console) -> None:
    """What does not fit the task's signature is refused; what does brings the execution to its end."""
    await parked(anywhere, "seven")
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/dead-letters")
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_role("link", name="broken-0").click()
        await expect(page.locator("#facts")).to_contain_text("invalid literal")
        arguments = page.get_by_label("Arguments by name")
        await arguments.fill('{"text": 7}')
        await page.get_by_role("button", name="Redrive").click()
        await expect(page.get_by_role("alert")).to_contain_text("parse")
        await page.go_back()
        await arguments.fill('{"text": "7"}')
        await page.get_by_role("button", name="Redrive").click()
        await expect(page.locator(".say.ok")).to_contain_text("runs again")
        assert await anywhere.client.get("broken-0").result(timeout=60) == "7"
        await expect(page.locator("#facts .badge")).to_have_text("redriven")
        await page.goto("/dead-letters")
        await expect(page.locator("#groups")).to_contain_text("Nothing waits for you")


async def test_dead_letters_of_one_kind_are_set_aside_brought_back_redriven_in_stages_and_discarded(
    anywhere: Console,
) -> None:
    """All the desk's verbs, on groups."""
    await parked(anywhere, "one", "two", "three")
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/dead-letters")
        await expect(page.locator("#groups tbody tr")).to_have_count(1)
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_text("Set aside…").click()
        await page.locator("#act-aside").get_by_label("Reason").fill("until Monday")
        await page.get_by_role("button", name="Set all aside").click()
        await expect(page.locator("#groups")).to_contain_text("Nothing waits for you")
        await page.get_by_role("link", name="Parking lot").click()
        await expect(page.locator("#groups")).to_contain_text("until Monday")
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_role("button", name="Bring back").click()
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_text("Redrive in stages…").click()
        await page.get_by_label("Arguments to change").fill('{"text": "5"}')
        await page.get_by_role("button", name="Redrive", exact=True).click()
        await expect(page.locator("#redrives")).to_contain_text("running")
        orphan = await parked_again(anywhere)
        await page.get_by_role("link", name="ValueError").click()
        await page.get_by_text("Discard…").click()
        await page.locator("#act-discard").get_by_label("Reason").fill("never mind")
        await page.get_by_role("button", name="Discard all of them").click()
        with pytest.raises(Exception, match="never mind"):
            await anywhere.client.get(orphan).result(timeout=60)
        assert visitor.complaints == []


async def parked_again(console: Console) -> str:
    """One more after the first ones are through; its execution."""

    async def none_left() -> bool:
        return not await console.client.dead_letters(DeadLetterFilter(task="parse"))

    redriver = console.system.redriver()
    await redriver.start()
    try:
        await asyncio.wait_for(until(none_left), 90)
    finally:
        await redriver.stop()
    await console.client.start(flow.broken.with_options(id="again"), "six")

    async def there() -> bool:
        return bool(await console.client.dead_letters(DeadLetterFilter(task="parse")))

    await asyncio.wait_for(until(there), 60)
    return "again"


async def test_a_schedule_is_made_paused_resumed_triggered_backfilled_and_deleted(anywhere: Console) -> None:
    """By forms; what a trigger has started is among the runs, and ends."""
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/schedules")
        await expect(page.locator("#schedules")).to_contain_text("There are none")
        await page.get_by_text("New schedule…").click()
        form = page.locator("#act-create")
        await form.get_by_label("Name").fill("nightly")
        await form.get_by_label("Workflow").fill("fan_out")
        await form.get_by_label("Cron").fill("0 2 * * *")
        await form.get_by_label("Time zone").fill("Europe/Berlin")
        await form.get_by_label("Input").fill('{"count": 2}')
        await form.get_by_role("button", name="Create").click()
        await expect(page.get_by_role("heading", name="nightly")).to_be_visible()
        await expect(page.locator("#next li")).to_have_count(10)
        await page.get_by_text("Pause…").click()
        await page.get_by_label("Why").fill("holidays")
        await page.get_by_role("button", name="Pause the schedule").click()
        await expect(page.locator("#facts")).to_contain_text("holidays")
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#facts .badge")).to_have_text("active")
        await page.get_by_text("Trigger…").click()
        await page.get_by_role("button", name="Trigger now").click()
        await expect(page.locator("#runs .badge")).to_have_text("completed")
        await page.get_by_text("Backfill…").click()
        await page.get_by_label("From").fill("2026-01-01T00:00")
        await page.get_by_label("To (UTC)").fill("2026-01-05T00:00")
        await page.get_by_role("button", name="Backfill", exact=True).click()
        await expect(page.locator(".say.ok")).to_contain_text("backfill has begun")
        await page.get_by_text("Delete…").click()
        await page.get_by_role("button", name="Delete the schedule").click()
        await expect(page.locator("#schedules")).to_contain_text("There are none")
        assert visitor.complaints == []


async def test_a_schedule_that_makes_no_sense_is_told_why(console: Console) -> None:
    """The page says what is wrong with what was filled in."""
    async with console.http() as http:
        for field, value, said in (
            ("cron", "61 * * * *", "61"),
            ("timezone", "Mars/Olympus", "Mars"),
            ("overlap", "whatever", "whatever"),
            ("input", "[1]", "JSON object"),
        ):
            data = {"name": "n", "workflow": "fan_out", "cron": "0 2 * * *", field: value}
            answer = await http.post("/schedules", data=data)
            assert answer.status_code in (400, 422), field
            assert said in answer.text


async def test_ticked_executions_are_cancelled_together(anywhere: Console) -> None:
    """And the search that found them is there again, with what could not be done told."""
    for name in ("bulk-1", "bulk-2", "bulk-3"):
        await anywhere.client.start(flow.order.with_options(id=name), "anvil")
    await anywhere.client.get("bulk-3").terminate()
    with pytest.raises(WorkflowTerminated):
        await anywhere.client.get("bulk-3").result(timeout=60)
    async with visiting(anywhere.url) as visitor:
        page = visitor.page
        await page.goto("/executions?q=bulk")
        await expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
        await page.get_by_label("All on this page").check()
        await expect(page.locator("[data-ticked]")).to_have_text("3")
        await page.get_by_label("bulk-2", exact=True).uncheck()
        await page.get_by_label("Reason").fill("all of them")
        await page.get_by_role("button", name="Cancel").click()
        await expect(page.locator("main .say")).to_contain_text("1 were asked to, 1 could not be")
        await expect(page).to_have_url(re.compile(r"q=bulk&done=1&not=1"))
        with pytest.raises(WorkflowCancelled, match="all of them"):
            await anywhere.client.get("bulk-1").result(timeout=60)
        await expect(page.locator("#rows")).to_contain_text("cancelled")
    assert (await anywhere.client.get("bulk-2").describe()).status is Status.RUNNING
    entries = (await anywhere.client.audit()).entries
    accepted = [entry for entry in entries if entry.action == "execution.cancel" and entry.outcome == "accepted"]
    assert [(entry.target, entry.actor) for entry in accepted] == [("bulk-1", "local")]


async def test_one_action_on_all_that_a_search_finds(anywhere: Console) -> None:
    """Previewed, begun, and followed to its end; who did it is in the audit log."""
    names = [f"sweep-{number}" for number in range(7)]
    await anywhere.client.start_many(flow.order, [("anvil",)] * 7, names)
    await anywhere.client.start(flow.order.with_options(id="other"), "anvil")
    runner = anywhere.system.jobs()
    await runner.start()
    try:
        async with visiting(anywhere.url) as visitor:
            page = visitor.page
            await page.goto("/executions?q=sweep&status=running")
            await page.get_by_role("link", name="Act on all that match").click()
            await expect(page.get_by_role("heading", name="7 executions")).to_be_visible()
            await page.get_by_label("Action").select_option("terminate")
            await page.get_by_label("Reason").fill("spring cleaning")
            await page.get_by_role("button", name="Begin").click()
            await expect(page.locator("#jobs .badge")).to_have_text("completed")
            await expect(page.locator("#jobs")).to_contain_text("spring cleaning")
            await page.goto("/audit")
            await expect(page.locator("#entries")).to_contain_text("job.start")
            await page.goto("/executions-all")
            await expect(page.get_by_role("alert")).to_contain_text("all executions")
    finally:
        await runner.stop()
    for name in names:
        with pytest.raises(WorkflowTerminated):
            await anywhere.client.get(name).result(timeout=60)
    assert (await anywhere.client.get("other").describe()).status is Status.RUNNING
