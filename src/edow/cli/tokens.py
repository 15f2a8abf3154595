"""`edow token`: who may use the HTTP API from elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from edow.cli import options, output
from edow.cli.commands import answer, group
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client.actor import ROLES
from edow.workflow.duration import microseconds

Name = Annotated[str, typer.Argument(metavar="NAME", help="What the token is for.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    return group("Tokens for the HTTP API.", {"create": create, "list": list_tokens, "revoke": revoke})


def create(
    name: Name,
    role: Annotated[str, typer.Option("--role", help="read, operate or admin.")] = "read",
    expires: Annotated[str | None, typer.Option("--expires", help="Like 90d.", show_default="never")] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make a token and print it; it is shown once, and only a hash of it is kept.

    With the first token of a store, everybody who uses the API needs one.
    """
    chosen = one_of("--role", role, ROLES)
    lasts = None if expires is None else microseconds(expires, "--expires ")
    text = with_client(store, lambda client: client.tokens().create(name, chosen, lasts), create=True)
    answer({"name": name, "role": chosen, "token": text}, text, as_json)
    if not as_json:
        note("keep it: it is not shown again")


def list_tokens(store: options.Store = None, utc: options.Utc = False, as_json: options.Json = False) -> None:
    """List tokens, also those that have expired, without their secrets."""
    found = with_client(store, lambda client: client.tokens().list())
    if as_json:
        print_json([{name: value for name, value in whole(each).items() if name != "digest"} for each in found])
        return
    if not found:
        note("there are no tokens: only clients on the API's own machine are served")
        return
    table = output.table("name", "role", "created", "by", "expires")
    for each in found:
        expires = "never" if each.expires_at is None else output.moment(each.expires_at, utc)
        table.add_row(each.name, each.role, output.moment(each.created_at, utc), each.created_by, expires)
    output.show(table)


def revoke(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Make a token invalid, at once."""
    with_client(store, lambda client: client.tokens().revoke(name))
    answer({"name": name, "revoked": True}, f"revoked {name}", as_json)
