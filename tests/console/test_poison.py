"""Letters of no execution on the desk's pages: what they are called, and what can be done with them."""

from __future__ import annotations

import msgspec
from playwright.async_api import expect

from edow.app import now
from edow.client.endpoints import EndpointSpec
from edow.orchestrator.cycle import poison_letter
from edow.store.contract import Commit, DeadLetterFilter, Put
from edow.trigger.action import Action
from edow.trigger.events import TRIGGERS, Trigger
from edow.trigger.given_up import letter_of
from edow.trigger.outgoing import Sending
from edow.trigger.poison import Buried, bury
from tests.console.browser import PATIENCE_MS, visiting
from tests.console.conftest import Console

expect.set_options(timeout=PATIENCE_MS)
ORIGIN = {"Sec-Fetch-Site": "same-origin"}
AGAIN = {"again": "applied"}


async def test_what_a_trigger_could_not_apply_is_applied_anew(anywhere: Console) -> None:
    """From the page of its group, once somebody has mended the trigger; of other poison that is not offered."""
    store = anywhere.system.store
    trigger = Trigger(name="orders", topic="orders", action=Action(workflow="order", id="body.id", input="body"))
    await store.records_put([Put(TRIGGERS, "orders", msgspec.json.encode(trigger))], 1)
    body = b'{"id": "o-1", "item": "book"}'
    await bury(store, Buried("trigger/orders", "trigger orders, topic orders", body, "orders"), "no id", now())
    await store.commit(Commit(leases={}, dead_letters=[poison_letter(b"\xff", "edow.tasks.a", "no JSON", now())]))
    groups = {each.newest.source: each.fingerprint for each in await anywhere.client.desk().groups()}
    async with anywhere.http() as http:
        desk = (await http.get("/dead-letters")).text
        assert "trigger/orders" in desk
        assert "edow.tasks.a" in desk
        assert (
            "Apply anew" not in (await http.get("/dead-letters/group", params={"group": groups["edow.tasks.a"]})).text
        )
        page = await http.get("/dead-letters/group", params={"group": groups["trigger/orders"]})
        assert "Apply anew" in page.text
        assert "Redrive in stages" not in page.text
        done = await http.post(
            "/dead-letters/group/again", data={"group": groups["trigger/orders"]} | AGAIN, headers=ORIGIN
        )
        assert done.headers["location"].endswith("said=applied")
    [letter] = await anywhere.client.dead_letters(DeadLetterFilter(state="redriven"))
    assert letter.reason == "started"
    assert (await anywhere.client.get("o-1").describe()).workflow == "order"


async def test_what_was_given_up_is_sent_again_from_its_page_or_the_desk(console: Console) -> None:
    """One letter, those of a kind, or all of an endpoint; who did it is in the audit log."""
    await console.client.endpoints().create(EndpointSpec(name="shop", url="https://127.0.0.1:1/", workflows=()))
    store, body = console.system.store, msgspec.Raw(b'{"type":"t","data":{"n":7}}')

    async def give_up(*numbers: int) -> None:
        letters = [letter_of(Sending(f"msg_{n}", "shop", "t", body, 1, 12), "not taken", now() + n) for n in numbers]
        await store.commit(Commit(leases={}, dead_letters=letters))

    async def waiting() -> int:
        return len(await console.client.dead_letters(DeadLetterFilter(source="endpoint/shop")))

    await give_up(*range(1, 6))
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.goto("/events/endpoints/shop")
        await page.get_by_role("link", name="5 in the dead-letter desk").click()
        await page.get_by_role("link", name="GivenUp").click()
        await page.get_by_role("link", name="msg_1").click()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".say.ok")).to_contain_text("sent by the next orchestrator")
        assert await waiting() == 4
        await page.get_by_role("link", name="of this kind").click()
        await page.get_by_role("button", name="Send again").click()
        await expect(page.locator(".say.ok")).to_contain_text("sent by the next orchestrator")
        assert await waiting() == 0
        await give_up(6, 7)
        await page.goto("/events/endpoints/shop")
        await page.get_by_role("button", name="Send 2 again").click()
        await expect(page.locator(".say.ok")).to_contain_text("given up is sent")
        assert await waiting() == 0
        assert visitor.complaints == []
    did = [(entry.action, entry.parameters["letters"]) for entry in (await console.client.audit()).entries]
    assert did == [("endpoint.send_again", 2), ("dead_letter.redrive", 4), ("dead_letter.redrive", 1)]
