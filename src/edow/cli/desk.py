"""The dead-letter desk on the command line: groups, the parking lot, redrives in stages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import options, output
from edow.cli.commands import answer, answer_all
from edow.cli.failure import note
from edow.cli.jsons import print_json, whole
from edow.cli.options import Command
from edow.cli.session import with_client
from edow.client.client import Client
from edow.client.desk import DryRun
from edow.client.redrives import Redrive
from edow.client.selection import LIMIT, Selection
from edow.errors import InvalidInput
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter, LetterGroup
from edow.trigger import given_up
from edow.trigger.poison import SOURCE

MORE = "{:,} more match than one command acts on: give it again once these are worked off"

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letter ids: execution/run/step.")]
Group = Annotated[str | None, typer.Option("--group", help="Of this group: see `edow dlq groups`.")]
RedriveId = Annotated[str, typer.Argument(metavar="ID", help="Redrive id.", show_default=False)]


def groups(
    aside: Annotated[bool, typer.Option("--aside", help="Those in the parking lot.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="At most so many.")] = 50,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """Dead letters by what went wrong: task, type of error, and the message without its particulars."""
    found = with_client(store, lambda client: client.desk().groups(aside=aside, limit=limit))
    names = ("group", "count", "task or source", "since", "last", "newest error")
    table = output.table(*names, right=("count",), flexible=("newest error",))

    def row(each: LetterGroup) -> tuple[str, ...]:
        since, last = output.moment(each.first_at, utc), output.moment(each.last_at, utc)
        what = output.one_line(each.newest.lot if aside else error_of(each.newest))
        return each.fingerprint, f"{each.count:,}", each.newest.source or "–", since, last, what

    none = "nothing is set aside" if aside else "no dead letters wait for anybody"
    answer_all(found, table, row, none, as_json)
    if found and not as_json:
        note(_suggestion(found[0]))


def _suggestion(group: LetterGroup) -> str:
    """Only what can be done with these letters. Those of releases that knew no groups are the group ''."""
    name = group.fingerprint or "''"
    if group.newest.execution:
        return f"redrive one group carefully: edow dlq redrive --group {name} --stages 1,10"
    if group.newest.source.startswith(given_up.SOURCE):
        return f"once the receiver is well, send them again: edow dlq redrive --source {group.newest.source}"
    if group.newest.source.startswith(SOURCE):
        return f"mend the trigger, and let it apply them anew: edow dlq redrive --group {name}; --dry-run tells whether"
    return f"poison belongs to no execution, and can only be discarded: edow dlq discard --group {name} --reason WHY"


def set_aside(
    ids: Ids = None,
    group: Group = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever finds them there will ask.")] = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Put dead letters into the parking lot, out of the way until somebody brings them back."""
    which = selection(ids, group)
    act_on(store, which, lambda client: client.desk().set_aside(which, reason), "set aside", as_json)


def bring_back(
    ids: Ids = None,
    group: Group = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Take dead letters out of the parking lot."""
    which = selection(ids, group)
    act_on(store, which, lambda client: client.desk().bring_back(which), "brought back", as_json, aside=True)


def redrives(
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """Redrives in stages: those that run, and those of the last weeks."""
    found = with_client(store, lambda client: client.desk().redrives())
    table = output.table("redrive", "state", "stage", "ok", "failed", "in hand", "began", "why", flexible=("why",))

    def row(each: Redrive) -> tuple[str | Text, ...]:
        began = output.moment(each.created_at, utc)
        counts = (f"{each.succeeded:,}", f"{each.failed:,}", str(len(each.in_hand)))
        return each.id, Text(each.state, style=STYLES[each.state]), stage_of(each), *counts, began, each.why

    none = "there are no redrives; edow dlq redrive --group GROUP --stages 1,10 begins one"
    answer_all(found, table, row, none, as_json)


STYLES = {"running": "bold cyan", "stopped": "bold yellow", "completed": "green"}


def stop(
    id: RedriveId,
    reason: options.Reason = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Let a redrive take no more letters."""
    redrive = with_client(store, lambda client: client.desk().stop_redrive(id, reason))
    said = f"stopped {redrive.id}: {redrive.succeeded:,} succeeded, {redrive.failed:,} failed again"
    answer(whole(redrive), said, as_json)


def tell_begun(redrive: Redrive, as_json: bool) -> None:
    said = f"redrive {redrive.id} begins with stage {stage_of(redrive)}; edow dlq redrives shows how it goes"
    answer(whole(redrive), said, as_json)


def tell_trials(result: DryRun, as_json: bool) -> None:
    if as_json:
        print_json(whole(result))
        return
    table = output.table("dead letter", "task", "arguments", "problem", flexible=("arguments", "problem"))
    for each in result.trials:
        arguments = output.one_line(bytes(each.args).decode("utf-8", "replace"))
        table.add_row(each.id, each.task, arguments, Text(each.problem, style="red"))
    output.show(table)
    note(f"{result.letters:,} would be redriven, {result.unfit:,} of them would not do; nothing was done")


def stages_of(text: str) -> tuple[int, ...]:
    """Of `1,10`. Raises InvalidInput."""
    try:
        return tuple(int(each) for each in text.split(",") if each.strip())
    except ValueError as problem:
        raise InvalidInput(f"--stages {text!r} are not sizes like 1,10") from problem


def stage_of(redrive: Redrive) -> str:
    size = redrive.stage_size
    return f"{redrive.stage + 1} ({'all that are left' if size is None else size})"


def selection(ids: list[str] | None, group: str | None) -> Selection:
    if bool(ids) == (group is not None):
        raise InvalidInput("give either dead letter ids or --group")
    return ids or DeadLetterFilter(fingerprint=group, limit=LIMIT)


def error_of(letter: DeadLetter) -> str:
    failure = msgspec.json.decode(letter.failure, type=Failure | None)
    if failure is None:
        return ""
    return f"{failure.type}: {failure.message}" if failure.type else failure.message


def act_on(
    store: str | None,
    which: Selection,
    act: Callable[[Client], Awaitable[int]],
    done: str,
    as_json: bool,
    *,
    aside: bool = False,
) -> None:
    """Do it, and tell how many there were, and how many more than one command acts on. `aside`: of those set aside."""

    async def both(client: Client) -> tuple[int, int]:
        left = await client.desk().left(which, aside=aside)
        return await act(client), left

    count, left = with_client(store, both)
    told = {done.replace(" ", "_"): count} | ({"left": left} if left else {})
    answer(told, f"{done} {count} dead letter{'' if count == 1 else 's'}", as_json)
    if left and not as_json:
        note(MORE.format(left))


COMMANDS: dict[str, Command] = {
    "groups": groups,
    "set-aside": set_aside,
    "bring-back": bring_back,
    "redrives": redrives,
    "stop": stop,
}  # beside those for single letters
