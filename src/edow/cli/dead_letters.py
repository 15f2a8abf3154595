"""`edow dlq`: look at dead letters, run their steps again, or answer them with an error."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import desk, options, output
from edow.cli.binding import load_code
from edow.cli.commands import group
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_json, read_parameters, whole
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client import Client
from edow.client.desk import Stages
from edow.client.letters import Args
from edow.client.selection import LIMIT, Selection
from edow.errors import InvalidInput, NotFound
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter

STATES = ("parked", "raised", "redriven", "discarded", "any")
All = Annotated[bool, typer.Option("--all", help="All that wait for somebody to act.")]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Dead letters: failures that wait for a person.",
        {"list": list_letters, "show": show, "redrive": redrive, "discard": discard, **desk.COMMANDS},
    )


class Which(msgspec.Struct, frozen=True):
    """Which letters."""

    task: Annotated[str | None, typer.Option("--task", help="Of this task.")] = None
    execution: Annotated[str | None, typer.Option("--execution", help="Of this execution.")] = None
    source: Annotated[
        str | None, typer.Option("--source", help="Of no execution, from a topic, trigger/NAME or endpoint/NAME.")
    ] = None
    error: Annotated[str | None, typer.Option("--error", help="Whose error's type or message contains this.")] = None
    group: desk.Group = None

    def letters(self) -> DeadLetterFilter:
        """Those that wait for somebody to act."""
        return DeadLetterFilter(
            execution=self.execution,
            task=self.task,
            source=self.source,
            error=self.error,
            fingerprint=self.group,
            limit=LIMIT,
        )


def list_letters(  # noqa: PLR0913  # options
    *,
    which: Which,
    aside: Annotated[bool, typer.Option("--aside", help="Those in the parking lot.")] = False,
    state: Annotated[str, typer.Option("--state", help="parked, raised, redriven, discarded, or any.")] = "parked",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=LIMIT, help="At most so many.")] = 100,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """List dead letters, oldest first; by default those that wait for somebody to act."""
    where = msgspec.structs.replace(which.letters(), state=_state(state), aside=aside, limit=limit + 1)
    letters = with_client(store, lambda client: client.dead_letters(where))
    if as_json:
        print_json([whole(each) for each in letters[:limit]])
        return
    _print_letters(letters[:limit], utc)
    if not letters and state == "parked":
        note("those whose workflow got the exception and went on: --state raised")
    if len(letters) > limit:
        note(f"there are more than {limit}: use --limit, or a filter")


def _print_letters(letters: list[DeadLetter], utc: bool) -> None:
    if not letters:
        note("no dead letters match")
        return
    names = ("id", "task or source", "state", "tries", "since", "error")
    table = output.table(*names, right=("tries",), flexible=("error",))
    for each in letters:
        table.add_row(
            each.id,
            each.source,
            Text(each.state, style="bold yellow" if each.state == "parked" else "dim"),
            str(each.attempts),
            output.moment(each.at, utc),
            output.one_line(desk.error_of(each)),
        )
    output.show(table)


def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="Dead letter id.", show_default=False)],
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """Show a dead letter: payload, error, stack, attempts, ids."""
    letter = with_client(store, lambda client: _one(client, id))
    if as_json:
        print_json(whole(letter))
        return
    failure = _failure(letter)
    facts: dict[str, Text | str] = {
        "dead letter": letter.id,
        "state": letter.state + (f" ({letter.reason})" if letter.reason else ""),
        "set aside": letter.lot,
        "group": letter.fingerprint,
        "task": letter.task,
        "from": "" if letter.task else letter.source,
        "workflow": letter.workflow,
        "since": output.moment(letter.at, utc),
        "attempts": str(letter.attempts),
        "correlation": letter.correlation,
        "trace": letter.trace,
        "arguments": bytes(letter.args).decode("utf-8", "replace"),
        "error": Text(desk.error_of(letter), style="red"),
    }
    output.show(output.facts(facts))
    if failure is not None and failure.stack:
        output.show("", Text(failure.stack.rstrip(), style="dim"))


async def _one(client: Client, id: str) -> DeadLetter:
    found = await client.dead_letters(DeadLetterFilter(ids=[id], state=None, limit=1))
    if not found:
        raise NotFound(f"there is no dead letter {id!r} in this store; `edow dlq list --state any` shows what there is")
    return found[0]


def redrive(  # noqa: PLR0913  # options
    ids: desk.Ids = None,
    *,
    which: Which,
    everything: All = False,
    given: Annotated[
        str | None, typer.Option("--input", "-i", metavar="JSON", help="New arguments by name: JSON, @FILE, or -.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=JSON", help="Change one argument and keep the others; repeatable."),
    ] = None,
    module: Annotated[
        list[str] | None, typer.Option("--module", "-m", help="Code to check new arguments against; repeatable.")
    ] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="Send new arguments without checking them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be redriven with what.")] = False,
    stages: Annotated[
        str | None, typer.Option("--stages", metavar="N,N", help="In stages of so many, like 1,10; then all.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", help="With --stages: letters a second.")] = 10.0,
    stop_above: Annotated[
        float, typer.Option("--stop-above", help="With --stages: share of failures at which it stops by itself.")
    ] = 0.2,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Run the steps of dead letters again, with the same or with edited arguments; send webhooks again.

    With --stages an orchestrator does it little by little, and stops when too many fail again.
    """
    selection = _selection(ids, which.letters(), everything)
    registry = load_code(module) if module else None
    if dry_run:
        changes = _changes(given, change)
        trials = with_client(store, lambda client: client.desk().dry_run(selection, changes, registry))
        desk.tell_trials(trials, as_json)
    elif stages is not None:
        changes, how = _changes(given, change), Stages(stages=desk.stages_of(stages), rate=rate, stop_above=stop_above)
        if not isinstance(selection, DeadLetterFilter) or which.error or which.source or everything:
            raise InvalidInput("--stages goes with --group, --task or --execution")
        begun = with_client(
            store,
            lambda client: client.desk().redrive(selection, changes, how, registry=registry, unchecked=unchecked),
        )
        desk.tell_begun(begun, as_json)
    else:
        args = _args(given, change)
        desk.act_on(
            store,
            selection,
            lambda client: client.redrive(selection, args, registry=registry, unchecked=unchecked),
            "redriven",
            as_json,
        )


def discard(  # options
    ids: desk.Ids = None,
    *,
    which: Which,
    everything: All = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever reads their histories will ask.")] = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Answer the steps of dead letters with an error; their workflows go on with that."""
    selection = _selection(ids, which.letters(), everything)
    desk.act_on(store, selection, lambda client: client.discard(selection, reason), "discarded", as_json)


def _selection(ids: list[str] | None, where: DeadLetterFilter, everything: bool) -> Selection:
    filtered = any((where.execution, where.task, where.source, where.error)) or where.fingerprint is not None
    if ids and (filtered or everything):
        raise InvalidInput("give either dead letter ids or filters, not both")
    if not ids and not filtered and not everything:
        raise InvalidInput(
            "nothing selected; give dead letter ids, --group, --task, --source, --execution, --error, or --all"
        )
    if filtered and everything:
        raise InvalidInput("--all and a filter contradict each other; leave one out")
    return ids or where


def _changes(given: str | None, change: list[str] | None) -> dict[str, object] | None:
    """Arguments by name that replace a letter's, for many letters that differ in the others."""
    if given is not None:
        raise InvalidInput("--input replaces all arguments; for many letters change single ones with --set")
    return dict(_change(each) for each in change) if change else None


def _args(given: str | None, change: list[str] | None) -> Args | None:
    if given is not None and change:
        raise InvalidInput("--input replaces all arguments and --set changes single ones; give one of them")
    if change:
        changes = dict(_change(each) for each in change)
        return lambda letter: {**msgspec.json.decode(letter.args, type=dict[str, object]), **changes}
    return None if given is None else read_parameters(given)


def _change(given: str) -> tuple[str, object]:
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise InvalidInput(f"--set {given!r} is not NAME=JSON; write it like 'amount=7' or 'name=\"ada\"'")
    return name, read_json(text, f"--set {name}")


def _state(given: str) -> str | None:
    return None if one_of("--state", given, STATES) == "any" else given


def _failure(letter: DeadLetter) -> Failure | None:
    return msgspec.json.decode(letter.failure, type=Failure | None)
