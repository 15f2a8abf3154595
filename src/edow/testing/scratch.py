"""A part of a server for one run alone, so that a demo or a measurement neither finds nor leaves anything of others."""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from edow.address import Address
from edow.app import SQLITE, STORES, TRANSPORTS, load_registry, sqlite_path
from edow.testing.erasing import erase

OPTIONS = {"postgresql": "schema"}  # what sets a part of a server apart; "prefix" elsewhere

log = logging.getLogger("edow.testing")


@asynccontextmanager
async def scratch(
    given: tuple[str | None, str | None], folder: Path, modules: Sequence[str], *, keep: bool = False
) -> AsyncIterator[tuple[str, str | None]]:
    """Store and transport for one run: what was named, apart from everything else there; files in `folder`.

    On leaving, also by Ctrl-C, the parts of servers that were made here are removed, unless they are to be `keep`t. A
    part that the user has named (by a schema or a prefix) is used as it is and stays. `modules`: what the run loads.

    Raises InvalidInput for a URL that nobody knows.
    """
    name = f"scratch_{secrets.token_hex(4)}"
    store, transport = given
    own = _apart(store, name, folder / "edow.db", STORES) if store else f"{SQLITE}{folder / 'edow.db'}"
    other = None
    if transport is not None and transport != store:
        other = _apart(transport, name, folder / "transport.db", TRANSPORTS)
    made = [] if keep else [url for url in (own, other) if url and url not in given and not url.startswith(SQLITE)]
    try:
        yield own, other
    finally:
        for url in made:
            await _erase(url, modules)


async def _erase(url: str, modules: Sequence[str]) -> None:
    names = {task.policy.topic for task in load_registry(modules).tasks.values()} | {"default", "bare"}
    try:
        await erase(url, sorted(names))
    except Exception as problem:
        log.warning("%s could not be removed, do so by hand: %s", Address(url), problem)


def _apart(url: str, name: str, file: Path, known: dict[str, tuple[str, str]]) -> str:
    address = Address(url)
    if address.scheme not in known:
        sqlite_path(url, "store")  # says what is wrong with it
        return f"{SQLITE}{file}"
    option = OPTIONS.get(address.scheme, "prefix")
    if option in address.options:
        return url
    return f"{url}{'&' if address.options else '?'}{option}={name}"
