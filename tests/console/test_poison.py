"""Letters of no execution on the desk's pages: what they are called, and what can be done with them."""

from __future__ import annotations

import msgspec

from edow.orchestrator.cycle import poison_letter
from edow.store.contract import Commit, DeadLetterFilter, Put
from edow.trigger.action import Action
from edow.trigger.events import TRIGGERS, Trigger
from edow.trigger.poison import Buried, bury
from tests.console.conftest import Console

ORIGIN = {"Sec-Fetch-Site": "same-origin"}


async def test_what_a_trigger_could_not_apply_is_applied_anew(anywhere: Console) -> None:
    """From the page of its group, once somebody has mended the trigger; of other poison that is not offered."""
    store = anywhere.system.store
    trigger = Trigger(name="orders", topic="orders", action=Action(workflow="order", id="body.id", input="body"))
    await store.records_put([Put(TRIGGERS, "orders", msgspec.json.encode(trigger))], 1)
    body = b'{"id": "o-1", "item": "book"}'
    await bury(store, Buried("trigger/orders", "trigger orders, topic orders", body, "orders"), "no id", 2)
    await store.commit(Commit(leases={}, dead_letters=[poison_letter(b"\xff", "edow.tasks.a", "no JSON", 3)]))
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
        done = await http.post("/dead-letters/group/apply", data={"group": groups["trigger/orders"]}, headers=ORIGIN)
        assert done.headers["location"].endswith("said=applied")
    [letter] = await anywhere.client.dead_letters(DeadLetterFilter(state="redriven"))
    assert letter.reason == "started"
    assert (await anywhere.client.get("o-1").describe()).workflow == "order"
