"""`edow trigger`: what messages on topics start and signal."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
import typer

from edow.cli import options, output
from edow.cli.failure import note
from edow.cli.hooks import (
    IdOption,
    InputOption,
    Keep,
    ModeOption,
    Signal,
    Singleton,
    Value,
    Workflow,
    action_spec,
    counted,
    does,
)
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client import Client
from edow.client.triggers import TriggerSpec, TriggerView

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the trigger.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Events: what messages on topics start or signal.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_triggers)
    app.command("show")(show)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("delete")(delete)
    return app


def create(  # noqa: PLR0913  # options
    name: Name,
    topic: Annotated[str, typer.Option("--topic", help="Topic to read.")],
    mode: ModeOption = "start",
    workflow: Workflow = "",
    signal: Signal = "",
    id: IdOption = "",
    input: InputOption = "body",
    value: Value = "body",
    singleton: Singleton = False,
    keep: Keep = "1d",
    group: Annotated[str, typer.Option("--group", help="Consumer group; by default edow-trigger-NAME.")] = "",
    broker: Annotated[
        str, typer.Option("--broker", metavar="URL", help="Where the topic is: a URL, or env:NAME of one.")
    ] = "",
    filter: Annotated[str, typer.Option("--filter", metavar="EXPR", help="Only messages for which it holds.")] = "",
    event_id: Annotated[str, typer.Option("--event-id", metavar="EXPR", help="What tells events apart.")] = "",
    remember: Annotated[str, typer.Option("--remember", help="How long an event's id is known.")] = "1d",
    debounce: Annotated[str, typer.Option("--debounce", help="Start once it has been quiet for so long.")] = "0s",
    max_wait: Annotated[str, typer.Option("--max-wait", help="At the latest after (10 times --debounce).")] = "0s",
    batch: Annotated[int, typer.Option("--batch", help="Start one for so many events.")] = 0,
    batch_wait: Annotated[str, typer.Option("--batch-wait", help="Or for those of so long.")] = "1m",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make a trigger: messages on a topic then start or signal. Expressions: JMESPath on body, event, key, topic."""
    action = action_spec(mode, workflow, signal, (id, input, value), singleton, keep)
    spec = TriggerSpec(
        **msgspec.structs.asdict(action),
        name=name,
        topic=topic,
        group=group,
        transport=broker,
        filter=filter,
        event_id=event_id,
        remember=remember,
        debounce=debounce,
        max_wait=max_wait,
        batch=batch,
        batch_wait=batch_wait,
    )
    _print(with_client(store, lambda client: client.triggers().create(spec), create=True), as_json)


def list_triggers(store: options.Store = None, as_json: options.Json = False) -> None:
    """List triggers, with what their messages came to."""
    found = with_client(store, lambda client: client.triggers().list())
    if as_json:
        print_json([msgspec.to_builtins(each) for each in found])
        return
    if not found:
        note("there are no triggers; `edow trigger create` makes one")
        return
    table = output.table("name", "topic", "does", "execution id", "messages", flexible=("execution id",))
    for each in found:
        what = does(each) + (" (paused)" if each.paused else "")
        table.add_row(each.name, each.topic, what, each.id or "one for each message", counted(each.counts))
    output.show(table)


def show(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Show a trigger."""
    _print(with_client(store, lambda client: client.triggers().get(name)), as_json)


def pause(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Pause a trigger; its messages wait in the broker."""
    _act(store, lambda client: client.triggers().pause(name), as_json)


def resume(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Resume a paused trigger, with the messages that wait."""
    _act(store, lambda client: client.triggers().resume(name), as_json)


def delete(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Delete a trigger; what it has gathered becomes a dead letter when it is due."""
    with_client(store, lambda client: client.triggers().delete(name))
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"trigger {name} deleted")


def _act(store: str | None, action: Callable[[Client], Awaitable[TriggerView]], as_json: bool) -> None:
    view = with_client(store, action)
    if as_json:
        print_json(msgspec.to_builtins(view))
    else:
        print(f"trigger {view.name} {'paused' if view.paused else 'resumed'}")


def _print(view: TriggerView, as_json: bool) -> None:
    if as_json:
        print_json(msgspec.to_builtins(view))
        return
    gathers = ""
    if view.debounce_seconds:
        gathers = f"debounced by {output.duration(view.debounce_seconds * 1e6)}"
    elif view.batch:
        gathers = f"by {view.batch}, or those of {output.duration(view.batch_wait_seconds * 1e6)}"
    facts = {
        "trigger": view.name + (" (paused)" if view.paused else ""),
        "topic": view.topic,
        "group": view.group,
        "broker": view.transport,
        "does": does(view),
        "execution id": view.id or "one for each message",
        "filter": view.filter,
        "input": view.input if view.mode != "signal" else "",
        "value": view.value if view.mode != "start" else "",
        "gathers": gathers,
        "event id": view.event_id or "source and id, or the bytes",
        "remembered": output.duration(view.remember_seconds * 1e6),
        "messages": counted(view.counts),
    }
    output.show(output.fields((name, value) for name, value in facts.items() if value))
