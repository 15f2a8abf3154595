"""`edow trigger`: what messages on topics start and signal."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from edow.cli import options, output
from edow.cli.actions import ActionOptions, counted, does, expressions
from edow.cli.commands import answer, answer_all, group
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client.triggers import TriggerSpec, TriggerView

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the trigger.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Events: what messages on topics start or signal.",
        {
            "create": create,
            "list": list_triggers,
            "show": show,
            "pause": pause,
            "resume": resume,
            "delete": delete,
        },
    )


def create(  # noqa: PLR0913  # options
    name: Name,
    *,
    topic: Annotated[str, typer.Option("--topic", help="Topic to read.")],
    action: ActionOptions,
    group: Annotated[str, typer.Option("--group", help="Consumer group; by default edow-trigger-NAME.")] = "",
    broker: Annotated[
        str, typer.Option("--broker", metavar="URL", help="Where the topic is: a URL, or env:NAME of one.")
    ] = "",
    filter: Annotated[str, typer.Option("--filter", metavar="EXPR", help="Only messages for which it holds.")] = "",
    event_id: Annotated[str, typer.Option("--event-id", metavar="EXPR", help="What tells events apart.")] = "",
    remember: Annotated[str, typer.Option("--remember", help="How long an event's id is known.")] = "1d",
    debounce: Annotated[str, typer.Option("--debounce", help="Start once it has been quiet for so long.")] = "",
    max_wait: Annotated[str, typer.Option("--max-wait", help="At the latest after (10 times --debounce).")] = "",
    batch: Annotated[int, typer.Option("--batch", help="Start one for so many events.")] = 0,
    batch_wait: Annotated[str, typer.Option("--batch-wait", help="Or for those of so long.")] = "1m",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make a trigger: messages on a topic then start or signal. Expressions: JMESPath on body, event, key, topic."""
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
    table = output.table("name", "topic", "does", "execution id", "messages", flexible=("execution id",))

    def row(each: TriggerView) -> tuple[str, ...]:
        what = does(each) + (" (paused)" if each.paused else "")
        return each.name, each.topic, what, each.id or "one for each message", counted(each.counts)

    answer_all(found, table, row, "there are no triggers; `edow trigger create` makes one", as_json)


def show(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Show a trigger."""
    _print(with_client(store, lambda client: client.triggers().get(name)), as_json)


def pause(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Pause a trigger; its messages wait in the broker."""
    view = with_client(store, lambda client: client.triggers().pause(name))
    answer(view, f"trigger {name} paused", as_json)


def resume(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Resume a paused trigger, with the messages that wait."""
    view = with_client(store, lambda client: client.triggers().resume(name))
    answer(view, f"trigger {name} resumed", as_json)


def delete(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Delete a trigger; what it has gathered becomes a dead letter when it is due."""
    with_client(store, lambda client: client.triggers().delete(name))
    answer({"name": name, "deleted": True}, f"trigger {name} deleted", as_json)


def _print(view: TriggerView, as_json: bool) -> None:
    if as_json:
        print_json(view)
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
        **expressions(view),
        "gathers": gathers,
        "event id": view.event_id or "source and id, or the bytes",
        "remembered": output.duration(view.remember_seconds * 1e6),
        "messages": counted(view.counts),
    }
    output.show(output.facts(facts))
