"""A part of a server for one run alone, so that a demo or a measurement neither finds nor leaves anything of others."""

from __future__ import annotations

import secrets
from pathlib import Path

from edow.address import Address
from edow.app import SQLITE, STORES, TRANSPORTS, sqlite_path

OPTIONS = {"postgresql": "schema"}  # what sets a part of a server apart; "prefix" elsewhere


def scratch(store: str | None, transport: str | None, folder: Path) -> tuple[str, str | None]:
    """Store and transport for one run: what was named, apart from everything else there; files in `folder`.

    Raises InvalidInput for a URL that nobody knows.
    """
    name = f"scratch_{secrets.token_hex(4)}"
    own = _apart(store, name, folder / "edow.db", STORES) if store else f"{SQLITE}{folder / 'edow.db'}"
    if transport is None or transport == store:
        return own, None
    return own, _apart(transport, name, folder / "transport.db", TRANSPORTS)


def _apart(url: str, name: str, file: Path, known: dict[str, tuple[str, str]]) -> str:
    address = Address(url)
    if address.scheme not in known:
        sqlite_path(url, "store")  # says what is wrong with it
        return f"{SQLITE}{file}"
    option = OPTIONS.get(address.scheme, "prefix")
    if option in address.options:
        return url
    return f"{url}{'&' if address.options else '?'}{option}={name}"
