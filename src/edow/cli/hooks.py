"""`edow hook`: what webhooks start or signal, and with which secrets they are signed."""

from __future__ import annotations

import sys
from typing import Annotated, get_args

import msgspec
import typer

from edow.cli import options, output
from edow.cli.actions import ActionOptions, counted, does, expressions
from edow.cli.commands import answer, answer_all, group
from edow.cli.failure import note
from edow.cli.jsons import print_json
from edow.cli.options import one_of
from edow.cli.session import with_client
from edow.client.hooks import HookSpec, HookView
from edow.errors import InvalidInput
from edow.trigger import references
from edow.trigger.signatures import SCHEMES, Algorithm, Encoding, Hmac

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the hook; its URL ends with it.", show_default=False)]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="REF", help="env:NAME, file:/PATH, or - to read it from stdin; repeatable."),
]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Webhooks: what they start or signal.",
        {"create": create, "list": list_hooks, "show": show, "rotate": rotate, "delete": delete},
    )


def create(  # noqa: PLR0913  # options
    name: Name,
    *,
    scheme: Annotated[str, typer.Option("--scheme", help=f"How it is signed: {', '.join(SCHEMES)}.")],
    secret: Secret = None,
    action: ActionOptions,
    filter: Annotated[str, typer.Option("--filter", metavar="EXPR", help="Only deliveries for which it holds.")] = "",
    delivery: Annotated[str, typer.Option("--delivery", metavar="EXPR", help="The delivery's id.")] = "",
    tolerance: Annotated[str, typer.Option("--tolerance", help="How far a signed time may be off.")] = "5m",
    remember: Annotated[str, typer.Option("--remember", help="How long a delivery's id is known.")] = "7d",
    header: Annotated[str | None, typer.Option("--header", help="Of the signature (scheme hmac).")] = None,
    algorithm: Annotated[str, typer.Option("--algorithm", help="sha256 or sha512 (scheme hmac).")] = "sha256",
    encoding: Annotated[str, typer.Option("--encoding", help="hex or base64 (scheme hmac).")] = "hex",
    prefix: Annotated[str, typer.Option("--prefix", help="Before the signature (scheme hmac).")] = "",
    time_header: Annotated[str, typer.Option("--time-header", help="Of the signed time (scheme hmac).")] = "",
    id_header: Annotated[str, typer.Option("--id-header", help="Of the delivery's id (scheme hmac).")] = "",
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make a hook: POST /hooks/NAME of `edow api` then starts or signals. Expressions are JMESPath.

    A secret is never an argument, which other users of the machine could read.
    """
    generic = Hmac(
        header or "x-signature",
        one_of("--algorithm", algorithm, get_args(Algorithm)),
        one_of("--encoding", encoding, get_args(Encoding)),
        prefix,
        time_header,
        id_header,
    )
    spec = HookSpec(
        **msgspec.structs.asdict(action),
        name=name,
        scheme=one_of("--scheme", scheme, SCHEMES),
        secrets=[secret_of(each) for each in secret or ()],
        filter=filter,
        delivery=delivery,
        hmac=generic if scheme == "hmac" or generic != Hmac() else None,
        tolerance=tolerance,
        remember=remember,
    )
    made = with_client(store, lambda client: client.hooks().create(spec), create=True)
    _print(made, as_json, f"hook {name} made; senders use POST /hooks/{name} of `edow api`")


def list_hooks(store: options.Store = None, as_json: options.Json = False) -> None:
    """List hooks, with what their deliveries came to."""
    found = with_client(store, lambda client: client.hooks().list())
    table = output.table("name", "scheme", "does", "execution id", "deliveries", flexible=("execution id",))

    def row(each: HookView) -> tuple[str, ...]:
        return each.name, each.scheme, does(each), each.id or "one for each delivery", counted(each.counts)

    answer_all(found, table, row, "there are no hooks; `edow hook create` makes one", as_json)


def show(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Show a hook. Of its secrets it says where they are, not what they are."""
    _print(with_client(store, lambda client: client.hooks().get(name)), as_json)


def rotate(
    name: Name,
    secret: Annotated[
        str | None, typer.Option("--secret", metavar="REF", help="The new one: env:NAME, file:/PATH, or - for stdin.")
    ] = None,
    finish: Annotated[bool, typer.Option("--finish", help="Accept the newest secret alone from now on.")] = False,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Change a hook's secret without losing a delivery: first --secret, then tell the sender, then --finish."""
    if (secret is None) == (not finish):
        raise InvalidInput("give either --secret with the new one, or --finish once the sender uses it")
    new = secret_of(secret) if secret is not None else None
    _print(with_client(store, lambda client: client.hooks().rotate(name, new)), as_json)


def delete(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Delete a hook; what it has started goes on."""
    with_client(store, lambda client: client.hooks().delete(name))
    answer({"name": name, "deleted": True}, f"hook {name} deleted", as_json)


def secret_of(given: str) -> str:
    """A reference, or what stdin has. Raises InvalidInput for a secret among the arguments."""
    if given == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if not references.is_elsewhere(given):
        raise InvalidInput(
            "a secret given as an argument could be read by others; use env:NAME, file:/PATH, or - for stdin"
        )
    return given


def _print(view: HookView, as_json: bool, done: str = "") -> None:
    if as_json:
        print_json(view)
        return
    facts = {
        "hook": view.name,
        "scheme": view.scheme,
        "secrets": ", ".join(view.secrets),
        "does": does(view),
        "execution id": view.id or "one for each delivery",
        "filter": view.filter,
        **expressions(view),
        "delivery id": view.delivery or "the scheme's own",
        "tolerance": output.duration(view.tolerance_seconds * 1e6),
        "remembered": output.duration(view.remember_seconds * 1e6),
        "deliveries": counted(view.counts),
    }
    output.show(output.facts(facts))
    if done:
        note(done)
