"""`edow bulk`: one action on all executions that match, as a job in the background."""

from __future__ import annotations

import sys
from typing import Annotated

import msgspec
import typer

from edow.cli import options, output
from edow.cli.commands import answer, group
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_json, whole
from edow.cli.listing import Which
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client.jobs import ACTIONS, Action, Job, Match, Order, Preview
from edow.errors import InvalidInput

What = Annotated[str, typer.Argument(metavar="ACTION", help=", ".join(ACTIONS) + ".", show_default=False)]
Id = Annotated[str, typer.Argument(metavar="JOB", help="As `edow bulk list` shows it.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "One action on many executions, in the background.",
        {"start": start, "list": list_jobs, "show": show, "stop": stop},
    )


class WhichOpen(Which, frozen=True):
    """Which executions; those that have not ended where no status is given."""

    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="Only in this status; repeatable.", show_default="open")
    ] = None


def start(  # noqa: PLR0913  # options
    action: What,
    *,
    which: WhichOpen,
    everything: Annotated[bool, typer.Option("--all", help="All that have not ended.")] = False,
    signal: Annotated[str, typer.Option("--signal", help="Name of the signal, for the action signal.")] = "",
    value: Annotated[str, typer.Option("--value", metavar="JSON", help="Of the signal.")] = "null",
    reason: options.Reason = "",
    rate: Annotated[float, typer.Option("--rate", help="Executions per second.")] = 100.0,
    dry: Annotated[bool, typer.Option("--preview", help="Only tell how many there are.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Count what matches, ask, and start a job that cancels, terminates, pauses, resumes or signals it.

    An orchestrator, or `edow api`, does the work; it goes on over any crash.
    """
    chosen = one_of("action", action, ACTIONS)
    match = Match(
        workflow=which.workflow,
        status=tuple(which.statuses()),
        prefix=which.prefix,
        started_after=which.started_after(),
        attributes=which.attributes(),
    )
    if match == Match() and not everything:
        raise InvalidInput("nothing selected; give --workflow, --status, --prefix, --since, --attribute, or --all")
    decoded = read_json(value, "--value") if signal else None
    order = Order(action=chosen, match=match, reason=reason, signal=signal, value=decoded, rate=rate).checked()
    found = with_client(store, lambda client: client.jobs().preview(match))
    if dry:
        answer(whole(found), _said(found), as_json)
        return
    _ask(found, chosen, yes)
    order = msgspec.structs.replace(order, at_most=found.count if found.exact else None)
    job = with_client(store, lambda client: client.jobs().start(order))
    answer(whole(job), job.id, as_json)
    if not as_json:
        note(f"it goes on in the background: `edow bulk show {job.id}`")


def list_jobs(store: options.Store = None, utc: options.Utc = False, as_json: options.Json = False) -> None:
    """List jobs that run, and those that ended in the last 30 days."""
    found = with_client(store, lambda client: client.jobs().list())
    if as_json:
        print_json([whole(each) for each in found])
        return
    table = output.table("job", "action", "state", "handled", "of", "by", "since", right=("handled", "of"))
    for each in found:
        since = output.moment(each.created_at, utc)
        handled = f"{each.handled:,}"
        table.add_row(each.id, each.action, each.state, handled, f"{each.total:,}", each.created_by, since)
    output.show(table)


def show(id: Id, store: options.Store = None, utc: options.Utc = False, as_json: options.Json = False) -> None:
    """Show how far a job is."""
    job = with_client(store, lambda client: client.jobs().get(id))
    if as_json:
        print_json(whole(job))
    else:
        _print_job(job, utc)


def stop(id: Id, reason: options.Reason = "", store: options.Store = None, as_json: options.Json = False) -> None:
    """Let a job act on no more executions."""
    job = with_client(store, lambda client: client.jobs().stop(id, reason))
    answer(whole(job), f"stopped {id} after {job.handled:,} executions", as_json)


def _print_job(job: Job, utc: bool) -> None:
    facts = {
        "job": job.id,
        "action": job.action + (f" {job.signal}" if job.signal else ""),
        "state": job.state + (f" ({job.why})" if job.why else ""),
        "reason": job.reason,
        "handled": f"{job.handled:,} of {job.total:,}, of which {job.skipped:,} were in no state for it",
        "began": output.moment(job.created_at, utc),
        "by": job.created_by,
        "ended": output.moment(job.ended_at, utc) if job.ended_at else "",
    }
    output.show(output.facts(facts))


def _said(found: Preview) -> str:
    more = "" if found.exact else " or more"
    names = ", ".join(found.sample[:3]) + (", ..." if found.count > 3 else "")
    return f"{found.count:,}{more} executions match" + (f": {names}" if names else "")


def _ask(found: Preview, action: Action, yes: bool) -> None:
    note(_said(found))
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"nobody is there to ask whether to {action} them; say --yes")
    typer.confirm(f"{action} them?", abort=True, err=True)
