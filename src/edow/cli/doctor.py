"""`edow doctor`: is this installation and this store in order, and if not, what to do."""

from __future__ import annotations

import platform
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.text import Text

from edow.address import Address
from edow.cli import findings, options, output
from edow.cli.binding import topic_names
from edow.cli.findings import Finding
from edow.cli.jsons import print_json
from edow.cli.session import run_async, store_to_open
from edow.errors import EdowError, Unavailable
from edow.monitor.incidents import orchestrators
from edow.store.contract import RecordFilter
from edow.trigger.schedules.book import AT, INDEX, due_of

if TYPE_CHECKING:
    from edow.app import System

EXIT_ILL = 1
STYLES = {"ok": "green", "warn": "bold yellow", "fail": "bold red"}


def doctor(
    module: Annotated[
        list[str] | None, typer.Option("--module", "-m", help="Code whose task topics to look at; repeatable.")
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Check the file's integrity however large it is.")] = False,
    store: options.Store = None,
    transport: options.Transport = None,
    as_json: options.Json = False,
) -> None:
    """Examine the store, the processes and what waits; exit code 1 if something is wrong."""
    url = store_to_open(store, create=False)
    names = topic_names(module)
    found = [findings.libraries(platform.python_version(), msgspec.__version__)]
    found += run_async(_examine(url, transport, names, deep))
    if as_json:
        print_json({"healthy": not _ill(found), "findings": found})
    else:
        _print(found)
    if _ill(found):
        raise typer.Exit(EXIT_ILL)


def _ill(found: list[Finding]) -> bool:
    return any(each.level == "fail" for each in found)


async def _examine(url: str, transport: str | None, names: list[str], deep: bool) -> list[Finding]:
    """The store first, and without the transport if that is what is wrong."""
    from edow.app import System, is_sqlite, sqlite_path

    path = sqlite_path(url, "store") if is_sqlite(url) else None
    found: list[Finding] = []
    try:
        system = System(url, transport)
        async with AsyncExitStack() as stack:
            await system.store.open()
            stack.push_async_callback(system.store.close)
            found += [Finding("store", "ok", f"{Address(url)} opens")]
            found += [findings.integrity(path, deep)] if path else []
            found += await _kept(system)
            found += await _carried(system, names)
    except EdowError as problem:
        found.append(_failed("store", problem))
    return [*found, findings.disk(path)] if path else found


async def _kept(system: System) -> list[Finding]:
    """What the store tells."""
    now = time.time_ns() // 1000
    counts = await system.store.counts(now)
    leases = await system.store.leases_hold("edow doctor", 0, now, now)  # wants none: this only looks
    first = await system.store.records_list(RecordFilter(INDEX, AT, limit=1))
    return [
        findings.executions(counts),
        findings.orchestrators(leases, system.store.shards, counts.by_status.get("running", 0), now),
        findings.progress(counts),
        findings.takers(await orchestrators(system.store), now),
        findings.inbox(counts, now),
        findings.outbox(counts),
        findings.dead_letters(counts),
        findings.schedules(due_of(first[0].key)[0] if first else None, now),
    ]


async def _carried(system: System, names: list[str]) -> list[Finding]:
    """What the transport tells."""
    try:
        await system.transport.open()
        try:
            found = await findings.workers(system.transport, names, time.time_ns() // 1000)
        finally:
            await system.transport.close()
    except EdowError as problem:
        return [_failed("transport", problem)]
    return found if system.joined else [Finding("transport", "ok", f"{Address(system.transport_url)} opens"), *found]


def _failed(what: str, problem: EdowError) -> Finding:
    """Messages say the remedy after the first semicolon, or else behind the last colon, where the caller can act."""
    wrong, mark, remedy = str(problem).partition("; ")
    if isinstance(problem, Unavailable):
        remedy = "see that it is up, and can be reached from here"
    elif not mark and ": " in wrong:
        wrong, _, remedy = wrong.rpartition(": ")
    return Finding(what, "fail", wrong, remedy)


def _print(found: list[Finding]) -> None:
    table = output.table("", "what", "found", "remedy")
    for column in table.columns[2:]:  # a remedy is of no use when it is cut
        column.no_wrap, column.overflow = False, "fold"
    for each in found:
        table.add_row(Text(each.level, style=STYLES[each.level]), each.what, each.said, Text(each.remedy, style="dim"))
    output.show(table)
