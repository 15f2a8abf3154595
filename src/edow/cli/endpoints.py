"""`edow endpoint`: who is told of executions that end, and of alerts."""

from __future__ import annotations

from typing import Annotated

import typer

from edow.cli import desk, options, output
from edow.cli.actions import counted
from edow.cli.commands import answer, answer_all, group
from edow.cli.failure import note
from edow.cli.hooks import secret_of
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client.client import Client
from edow.client.endpoints import EndpointSpec, EndpointView, MadeEndpoint
from edow.trigger.given_up import SOURCE
from edow.trigger.outgoing import STATUSES
from edow.workflow.duration import seconds

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the endpoint.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Outgoing webhooks: who is told of ends and alerts.",
        {
            "create": create,
            "list": list_endpoints,
            "show": show,
            "test": send_ping,
            "send-again": send_again,
            "rotate": rotate,
            "delete": delete,
        },
    )


def create(  # noqa: PLR0913  # options
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Where to send: https://HOST/PATH.")],
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", metavar="REF", help="env:NAME, file:/PATH, or - for stdin; repeatable."),
    ] = None,
    workflow: Annotated[
        list[str] | None, typer.Option("--workflow", "-w", help="Only ends of this one, or NAME*; repeatable.")
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option("--status", "-s", help="Only ends with this status; repeatable.")
    ] = None,
    results: Annotated[bool, typer.Option("--results", help="Send results, too.")] = False,
    no_ends: Annotated[bool, typer.Option("--no-ends", help="It is told of no ends, but of alerts.")] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make an endpoint: it is then sent signed webhooks. Without --secret one is made up, and shown this once."""
    spec = EndpointSpec(
        name=name,
        url=url,
        secrets=[secret_of(each) for each in secret or ()],
        workflows=() if no_ends else tuple(workflow or ("*",)),
        statuses=tuple(status or STATUSES),
        results=results,
    )
    _print_made(with_client(store, lambda client: client.endpoints().create(spec), create=True), as_json)


def list_endpoints(store: options.Store = None, as_json: options.Json = False) -> None:
    """List endpoints, with what became of their messages."""
    found = with_client(store, lambda client: client.endpoints().list())
    table = output.table("name", "url", "workflows", "messages", "given up", right=("given up",), flexible=("url",))

    def row(each: EndpointView) -> tuple[str, ...]:
        told = ", ".join(each.workflows) or "none"
        return each.name, each.url, told, counted(each.counts), f"{each.given_up:,}"

    answer_all(found, table, row, "there are no endpoints; `edow endpoint create` makes one", as_json)


def show(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Show an endpoint. Of its secrets it says where they are, not what they are."""
    _print(with_client(store, lambda client: client.endpoints().get(name)), as_json)


def send_ping(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Send an endpoint a message of the type `ping`, by the next orchestrator that looks."""
    with_client(store, lambda client: client.endpoints().test(name))
    answer({"name": name, "enqueued": True}, f"a ping for endpoint {name} is enqueued", as_json)


def send_again(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Send again all messages that were given up; they wait in the dead-letter desk."""

    async def both(client: Client) -> tuple[int, int]:
        endpoints = client.endpoints()
        left = await client.desk().left(endpoints.given_up(name))
        return await endpoints.send_again(name), left

    count, left = with_client(store, both)
    said = f"{count:,} message{'' if count == 1 else 's'} for endpoint {name} will be sent again"
    answer({"name": name, "sent_again": count} | ({"left": left} if left else {}), said, as_json)
    if left and not as_json:
        note(desk.MORE.format(left))


def rotate(
    name: Name,
    secret: Annotated[
        str | None, typer.Option("--secret", metavar="REF", help="The new one: env:NAME, file:/PATH, or - for stdin.")
    ] = None,
    keep: Annotated[str, typer.Option("--keep", help="For how long the old secrets sign, too.")] = "1d",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Give an endpoint a new secret; the old ones sign beside it for a while. Without --secret one is made up."""
    new = secret_of(secret) if secret is not None else None
    lasts = seconds(keep, "--keep")
    _print_made(with_client(store, lambda client: client.endpoints().rotate(name, new, lasts)), as_json)


def delete(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Delete an endpoint; what is still to be sent to it becomes dead letters."""
    with_client(store, lambda client: client.endpoints().delete(name))
    answer({"name": name, "deleted": True}, f"endpoint {name} deleted", as_json)


def _print_made(made: MadeEndpoint, as_json: bool) -> None:
    _print(made, as_json)
    if made.new_secret is not None and not as_json:
        note(f"the receiver needs this secret, which is not shown again: {made.new_secret}")


def _print(view: EndpointView, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    facts = {
        "endpoint": view.name,
        "url": view.url,
        "secrets": ", ".join(view.secrets),
        "retiring": ", ".join(f"{each.secret} until {each.until:%Y-%m-%d %H:%M} UTC" for each in view.retiring)
        or "none",
        "workflows": ", ".join(view.workflows) or "none",
        "statuses": ", ".join(view.statuses),
        "results": "sent, too" if view.results else "not sent",
        "messages": counted(view.counts),
        "given up": _given_up(view),
    }
    output.show(output.facts(facts))


def _given_up(view: EndpointView) -> str:
    if not view.given_up:
        return "none"
    return f"{view.given_up:,}: edow dlq list --source {SOURCE}{view.name}, edow endpoint send-again {view.name}"
