"""The pages of incoming webhooks, event triggers and endpoints: what they tell, do, and keep quiet."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from edow.client.endpoints import EndpointSpec
from edow.client.hooks import HookSpec
from edow.client.triggers import TriggerSpec
from edow.testing.polling import until
from edow.trigger.outgoing import new_secret
from tests.console.browser import PATIENCE_MS, visiting
from tests.console.conftest import Console

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=PATIENCE_MS)
URL = "https://shop.example/edow?key=quiet"


async def define(console: Console, secret: str) -> None:
    """One of each kind."""
    hook = HookSpec(name="orders", scheme="github", secrets=[secret, "env:PATH"], workflow="order", id="body.id")
    open_hook = HookSpec(name="open", scheme="none", workflow="fan_out", input="{count: body.count}")
    trigger = TriggerSpec(name="paid", topic="payments", mode="signal", signal="approved", id="body.id")
    await console.client.hooks().create(hook)
    await console.client.hooks().create(open_hook)
    await console.client.triggers().create(trigger)
    await console.client.endpoints().create(EndpointSpec(name="shop", url=URL, secrets=[new_secret()]))


async def test_deliveries_are_counted_and_the_last_ones_shown(anywhere: Console) -> None:
    """By what they came to, with the execution; what was refused says why."""
    await define(anywhere, "a secret that nobody may see")
    async with anywhere.http() as http:
        started = await http.post("/hooks/open", json={"count": 1})
        assert (started.status_code, started.json()["status"]) == (202, "started")
        assert (await http.post("/hooks/open", json={"count": 1})).json()["status"] == "duplicate"
        assert (await http.post("/hooks/orders", json={"id": "x"})).status_code == 401

        async def told() -> bool:
            recent = await anywhere.client.hooks().recent()
            return len(recent.get("open", ())) == 2 and len(recent.get("orders", ())) == 1

        await asyncio.wait_for(until(told), 120)  # they are written every few seconds
        opened, orders, both = [
            (await http.get(path)).text for path in ("/events/hooks/open", "/events/hooks/orders", "/events")
        ]
    assert "duplicate" in opened
    assert f'href="/executions/{started.json()["execution"]}"' in opened
    assert "signature" in orders
    assert 'href="/events/hooks/orders"' in both


async def test_no_secret_is_on_any_page(console: Console) -> None:
    """Of secrets it is told where they are; of an address nothing that may be one."""
    secret = "a secret that nobody may see"
    await define(console, secret)
    async with console.http() as http:
        for path in (
            *("/events", "/events/hooks", "/events/triggers", "/events/endpoints"),
            *("/events/hooks/orders", "/events/triggers/paid", "/events/endpoints/shop"),
        ):
            answer = await http.get(path)
            assert answer.status_code == 200, path
            assert not any(word in answer.text for word in (secret, "whsec_", "quiet")), path
        assert "env:PATH" in (await http.get("/events/hooks/orders")).text
        assert "https://shop.example/edow?…" in (await http.get("/events/endpoints/shop")).text


async def test_who_may_look_may_not_act(console: Console) -> None:
    """As everywhere; and what is not there, or cannot be done, is told."""
    await define(console, "secret")
    token = await console.client.tokens().create("viewer", "read")
    acting = await console.client.tokens().create("operator", "operate")
    async with console.http() as http:
        viewer, operator = ({"Authorization": f"Bearer {each}"} for each in (token, acting))
        assert (await http.get("/events/triggers/paid", headers=viewer)).status_code == 200
        assert (await http.post("/events/triggers/paid/pause", headers=viewer)).status_code == 403
        for path in ("/events/triggers/paid/explode", "/events/hooks/orders/pause"):
            assert (await http.post(path, headers=operator)).status_code == 400
        for path in ("/events/triggers/none", "/events/nothing"):
            assert (await http.get(path, headers=viewer)).status_code == 404
        assert (await http.post("/events/triggers/none/pause", headers=operator)).status_code == 404
    assert not (await console.client.triggers().get("paid")).paused


async def test_a_trigger_is_paused_and_resumed_and_an_endpoint_pinged(console: Console) -> None:
    """From their pages; who did it is in the audit log."""
    await define(console, "secret")
    async with visiting(console.url) as visitor:
        page = visitor.page
        await page.goto("/")
        await page.get_by_role("link", name="Webhooks and events").click()
        await page.get_by_role("link", name="Event triggers").click()
        await page.get_by_role("link", name="paid").click()
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#facts .badge")).to_have_text("paused")
        assert (await console.client.triggers().get("paid")).paused
        await page.get_by_role("button", name="Resume").click()
        await expect(page.locator("#facts .badge")).to_have_text("active")
        assert not (await console.client.triggers().get("paid")).paused
        await page.goto("/events/endpoints/shop")
        await page.get_by_role("button", name="Send a ping").click()
        await expect(page.locator(".say.ok")).to_contain_text("ping is sent")
        assert visitor.complaints == []
    did = {(entry.action, entry.target, entry.actor) for entry in (await console.client.audit()).entries}
    assert {("trigger.pause", "paid", "local"), ("endpoint.test", "shop", "local")} <= did
