"""The console below a prefix: in another ASGI application, and behind a proxy that takes the prefix away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import expect

import edow
from edow.api.server import Server, prefix_of
from edow.app import System, load_registry
from edow.console.site import application
from edow.errors import InvalidInput
from tests.console import flow
from tests.console.browser import PATIENCE_MS, visiting
from tests.console.conftest import RESTLESS

pytestmark = pytest.mark.timeout(240)
expect.set_options(timeout=PATIENCE_MS)


def mounted(app: Any) -> Any:
    """As frameworks do it: what is below /edow/ is the application's, which finds in `root_path` where it is."""

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif scope["path"].startswith("/edow/"):
            await app({**scope, "root_path": "/edow"}, receive, send)
        else:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"somebody else's"})

    return outer


@asynccontextmanager
async def serving(folder: Path, *, inside: bool) -> AsyncIterator[tuple[str, edow.Client]]:
    """With an orchestrator and a worker. `inside`: another application; else by the server's own prefix."""
    registry = load_registry(["tests.console.flow"])
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(System(f"sqlite:///{folder}/store.db", None, registry))
        client = await stack.enter_async_context(edow.Client(store=system.store))
        app = application(system.store, system.transport, registry=registry, settings=RESTLESS)
        server = Server(mounted(app), "127.0.0.1", 0) if inside else Server(app, "127.0.0.1", 0, "/edow")
        parts = [system.orchestrator(), system.worker(), server]
        for part in parts:
            await part.start()
        try:
            yield server.url, client
        finally:
            for part in reversed(parts):
                await part.stop()


async def test_all_of_it_stays_below_the_prefix_of_another_application(tmp_path: Path) -> None:
    """Signing in, links, forms, redirects, live updates, pages of lists, and signing out."""
    async with serving(tmp_path, inside=True) as (url, client):
        await client.start(flow.order.with_options(id="one"), "anvil")
        token = await client.tokens().create("operator", "operate")
        async with visiting(url) as visitor:
            page = visitor.page
            await page.goto("/edow/executions?q=one")
            await expect(page).to_have_url(re.compile("/edow/login\\?to=/executions"))
            await page.get_by_label("Token").fill(token)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page).to_have_url(re.compile("/edow/executions\\?q=one$"))
            [cookie] = await page.context.cookies()
            assert cookie["path"] == "/edow"
            for name in await page.get_by_role("navigation", name="Console").get_by_role("link").all_inner_texts():
                await page.get_by_role("link", name=name, exact=True).click()
                await expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
            await page.get_by_role("link", name="Executions").click()
            await page.get_by_role("link", name="one", exact=True).click()
            await expect(page.locator("#timeline")).to_contain_text("reserve")
            await page.get_by_text("Signal…").click()
            await page.get_by_label("Name").fill("approved")
            await page.get_by_label("Value (JSON)").fill("true")
            await page.get_by_role("button", name="Send signal").click()
            await expect(page.locator(".say.ok")).to_contain_text("signal was sent")
            await expect(page.locator("#facts .badge")).to_have_text("completed")
            await client.start_many(flow.fan_out, [(0,)] * 60, [f"many-{number}" for number in range(60)])
            await page.goto("/edow/executions?q=many")
            await page.get_by_role("link", name="Older").click()
            await expect(page.locator("#rows tbody tr")).to_have_count(10)
            await page.get_by_role("button", name="Sign out").click()
            await expect(page).to_have_url(re.compile("/edow/login$"))
            assert await page.context.cookies() == []
            assert visitor.complaints == []
            assert {address.split("/")[3] for address in visitor.asked} == {"edow"}


async def test_a_proxy_may_take_the_prefix_away(tmp_path: Path) -> None:
    """The server was told of it, so links and redirects have it; the API is there, too."""
    async with serving(tmp_path, inside=False) as (url, client), httpx.AsyncClient(base_url=url, timeout=30) as http:
        handle = await client.start(flow.order.with_options(id="one"), "anvil")
        assert 'href="/edow/executions/one"' in (await http.get("/executions")).text
        answer = await http.post("/executions/one/cancel", data={"reason": "enough"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/edow/executions/one?said=cancel")
        assert (await http.get("/api/v1/executions/one")).json()["id"] == "one"
        with pytest.raises(edow.errors.WorkflowCancelled):
            await asyncio.wait_for(handle.result(), 60)


@pytest.mark.parametrize(("given", "prefix"), [("", ""), ("/", ""), ("edow", "/edow"), ("/a/b-1/", "/a/b-1")])
def test_a_prefix_is_a_path(given: str, prefix: str) -> None:
    """With or without slashes around it."""
    assert prefix_of(given) == prefix


@pytest.mark.parametrize("given", ["/a//b", "/a b", "/ä", 'x"y', "https://host/edow"])
def test_what_is_no_path_is_refused(given: str) -> None:
    """With what was given."""
    with pytest.raises(InvalidInput, match="prefix"):
        prefix_of(given)
