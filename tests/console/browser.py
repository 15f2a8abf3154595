"""A real Chromium, as people have it: Debian's, headless. Skipped where there is none, unless servers are required."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Page, async_playwright

from tests.servers import program

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PATIENCE_MS = 45_000


class Visitor:
    """One page in a browser of its own. `complaints`: what scripts threw, and what the browser refused."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.asked: list[str] = []
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda problem: self.complaints.append(str(problem)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))


@asynccontextmanager
async def visiting(base: str, **options: Any) -> AsyncIterator[Visitor]:
    """`options` are those of a browser context: `color_scheme`, `viewport`, `java_script_enabled`."""
    executable = program("chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=FLAGS, timeout=PATIENCE_MS)
        context = await browser.new_context(base_url=base, **options)
        visitor = Visitor(await context.new_page())
        try:
            yield visitor
        finally:
            await browser.close()
