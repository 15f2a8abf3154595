"""`edow dlq`: look at dead letters, run their steps again, or answer them with an error."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer
from rich.text import Text

from edow.cli import desk, options, output
from edow.cli.binding import load_code
from edow.cli.failure import note
from edow.cli.jsons import print_json, read_json, whole
from edow.cli.session import with_client
from edow.client import Client
from edow.client.desk import Stages
from edow.client.letters import LIMIT, Args, Selection
from edow.errors import InvalidInput, NotFound
from edow.model.failure import Failure
from edow.store.contract import DeadLetter, DeadLetterFilter
from edow.workflow.registry import Registry

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Dead letter ids: execution/run/step.")]
TaskName = Annotated[str | None, typer.Option("--task", help="Of this task.")]
OfExecution = Annotated[str | None, typer.Option("--execution", help="Of this execution.")]
Error = Annotated[str | None, typer.Option("--error", help="Whose error's type or message contains this.")]
All = Annotated[bool, typer.Option("--all", help="All that wait for somebody to act.")]


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Dead letters: failures that wait for a person.", no_args_is_help=True)
    app.command("list")(list_letters)
    app.command("show")(show)
    app.command("redrive")(redrive)
    app.command("discard")(discard)
    desk.add_to(app)
    return app


def list_letters(  # noqa: PLR0913  # options
    task: TaskName = None,
    execution: OfExecution = None,
    error: Error = None,
    group: desk.Group = None,
    aside: Annotated[bool, typer.Option("--aside", help="Those in the parking lot.")] = False,
    state: Annotated[str, typer.Option("--state", help="parked, raised, redriven, discarded, or any.")] = "parked",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=LIMIT, help="At most so many.")] = 100,
    store: options.Store = None,
    utc: options.Utc = False,
    as_json: options.Json = False,
) -> None:
    """List dead letters, oldest first; by default those that wait for somebody to act."""
    where = DeadLetterFilter(
        execution=execution,
        task=task,
        state=_state(state),
        error=error,
        fingerprint=group,
        aside=aside,
        limit=limit + 1,
    )
    letters = with_client(store, lambda client: client.dead_letters(where))
    if as_json:
        print_json([whole(each) for each in letters[:limit]])
        return
    _print_letters(letters[:limit], utc)
    if len(letters) > limit:
        note(f"there are more than {limit}: use --limit, or a filter")


def _print_letters(letters: list[DeadLetter], utc: bool) -> None:
    if not letters:
        note("no dead letters match")
        return
    table = output.table("id", "task", "state", "tries", "since", "error", right=("tries",), flexible=("error",))
    for each in letters:
        table.add_row(
            each.id,
            each.task,
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
        "workflow": letter.workflow,
        "since": output.moment(letter.at, utc),
        "attempts": str(letter.attempts),
        "correlation": letter.correlation,
        "trace": letter.trace,
        "arguments": bytes(letter.args).decode("utf-8", "replace"),
        "error": Text(desk.error_of(letter), style="red"),
    }
    output.show(output.fields((name, value) for name, value in facts.items() if str(value)))
    if failure is not None and failure.stack:
        output.show("", Text(failure.stack.rstrip(), style="dim"))


async def _one(client: Client, id: str) -> DeadLetter:
    found = await client.dead_letters(DeadLetterFilter(ids=[id], state=None, limit=1))
    if not found:
        raise NotFound(f"there is no dead letter {id!r} in this store; `edow dlq list --state any` shows what there is")
    return found[0]


def redrive(  # noqa: PLR0913  # options
    ids: Ids = None,
    task: TaskName = None,
    execution: OfExecution = None,
    error: Error = None,
    group: desk.Group = None,
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
    """Run the steps of dead letters again, with the same or with edited arguments.

    With --stages an orchestrator does it little by little, and stops when too many fail again.
    """
    where = DeadLetterFilter(execution=execution, task=task, error=error, fingerprint=group, limit=LIMIT)
    which = _selection(ids, where, everything)
    registry = _registry(module)
    if dry_run:
        changes = _changes(given, change)
        desk.tell_trials(with_client(store, lambda client: client.desk().dry_run(which, changes, registry)), as_json)
    elif stages is not None:
        changes, how = _changes(given, change), Stages(stages=desk.stages_of(stages), rate=rate, stop_above=stop_above)
        if not isinstance(which, DeadLetterFilter) or error is not None or everything:
            raise InvalidInput("--stages goes with --group, --task or --execution")
        begun = with_client(
            store,
            lambda client: client.desk().redrive(which, changes, how, registry=registry, unchecked=unchecked),
        )
        desk.tell_begun(begun, as_json)
    else:
        args = _args(given, change)
        count = with_client(store, lambda client: client.redrive(which, args, registry=registry, unchecked=unchecked))
        _tell("redriven", count, as_json)


def discard(  # noqa: PLR0913  # options
    ids: Ids = None,
    task: TaskName = None,
    execution: OfExecution = None,
    error: Error = None,
    group: desk.Group = None,
    everything: All = False,
    reason: options.Reason = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Answer the steps of dead letters with an error; their workflows go on with that."""
    where = DeadLetterFilter(execution=execution, task=task, error=error, fingerprint=group, limit=LIMIT)
    which = _selection(ids, where, everything)
    count = with_client(store, lambda client: client.discard(which, reason))
    _tell("discarded", count, as_json)


def _tell(done: str, count: int, as_json: bool) -> None:
    if as_json:
        print_json({done: count})
    else:
        print(f"{done} {count} dead letter{'' if count == 1 else 's'}")


def _selection(ids: list[str] | None, where: DeadLetterFilter, everything: bool) -> Selection:
    filtered = any((where.execution, where.task, where.error, where.fingerprint))
    if ids and (filtered or everything):
        raise InvalidInput("give either dead letter ids or filters, not both")
    if not ids and not filtered and not everything:
        raise InvalidInput("nothing selected; give dead letter ids, --group, --task, --execution, --error, or --all")
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
    if given is None:
        return None
    values = read_json(given, "--input")
    if not isinstance(values, dict):
        raise InvalidInput(f"--input must be a JSON object of arguments by name, not {values!r:.60}")
    return values


def _change(given: str) -> tuple[str, object]:
    name, equals, text = given.partition("=")
    if not equals or not name:
        raise InvalidInput(f"--set {given!r} is not NAME=JSON; write it like 'amount=7' or 'name=\"ada\"'")
    return name, read_json(text, f"--set {name}")


def _registry(modules: list[str] | None) -> Registry | None:
    return load_code(modules) if modules else None


def _state(given: str) -> str | None:
    if given == "any":
        return None
    if given not in ("parked", "raised", "redriven", "discarded"):
        raise InvalidInput(f"--state {given!r} is unknown; use parked, raised, redriven, discarded, or any")
    return given


def _failure(letter: DeadLetter) -> Failure | None:
    return msgspec.json.decode(letter.failure, type=Failure | None)
