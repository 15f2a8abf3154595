"""`edow audit`: what operators did."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edow.cli import options, output
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole
from edow.cli.session import with_client
from edow.client import Client
from edow.client.audit import MAX_LIMIT, AuditFilter, Entry


def audit(  # noqa: PLR0913  # options
    actor: Annotated[str | None, typer.Option("--actor", help="Of this one, like cli:ada or token:ci.")] = None,
    action: Annotated[
        str | None, typer.Option("--action", help="Like execution.cancel, or execution for all of them.")
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="On this execution, dead letter, token ...")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="At most so many.", min=1, max=MAX_LIMIT)] = 100,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """List what operators did, newest first: who, what, on what, when. Entries are kept for 400 days."""
    where = AuditFilter(actor, action, target, None, limit)
    entries, more = with_client(store, lambda client: _read(client, where))
    if as_json:
        print_json([whole(each) for each in entries])
        return
    if not entries:
        note("the audit log has no such entries")
        return
    table = output.table("at", "who", "what", "on", "how", flexible=("how",))
    for each in entries:
        table.add_row(output.moment(each.at, utc), each.actor, each.action, each.target, _how(each))
    output.show(table)
    if more:
        note(f"there are more than {limit}: use --limit, or a filter")


async def _read(client: Client, where: AuditFilter) -> tuple[list[Entry], bool]:
    """As many as were asked for, over pages that a filter has left nearly empty."""
    entries: list[Entry] = []
    while True:
        left = msgspec.structs.replace(where, limit=where.limit - len(entries))
        page = await client.audit(left)
        entries += page.entries
        if page.cursor is None or len(entries) == where.limit:
            return entries, page.cursor is not None
        where = msgspec.structs.replace(where, cursor=page.cursor)


def _how(entry: Entry) -> str:
    said = ", ".join(f"{name} {value}" for name, value in entry.parameters.items() if value not in ("", None))
    return f"refused ({entry.reason})" if entry.outcome == "refused" else output.one_line(said)
