"""`edow hook`: what webhooks start or signal, and with which secrets they are signed."""

from __future__ import annotations

import sys
from typing import Annotated, cast

import msgspec
import typer

from edow.cli import options, output
from edow.cli.failure import note
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client.hooks import ActionSpec, ActionView, HookSpec, HookView
from edow.errors import InvalidInput
from edow.trigger import references
from edow.trigger.action import MODES, Mode
from edow.trigger.signatures import SCHEMES, Algorithm, Encoding, Hmac, Scheme

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the hook; its URL ends with it.", show_default=False)]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="REF", help="env:NAME, file:/PATH, or - to read it from stdin; repeatable."),
]
ModeOption = Annotated[str, typer.Option("--mode", help="start, signal, or start-or-signal.")]
Workflow = Annotated[str, typer.Option("--workflow", "-w", help="Workflow to start.")]
Signal = Annotated[str, typer.Option("--signal", help="Name of the signal.")]
IdOption = Annotated[str, typer.Option("--id", metavar="EXPR", help="The execution's id, like body.order.id.")]
InputOption = Annotated[str, typer.Option("--input", "-i", metavar="EXPR", help="Parameters, like {order: body}.")]
Value = Annotated[str, typer.Option("--value", metavar="EXPR", help="The signal's value.")]
Singleton = Annotated[bool, typer.Option("--singleton", help="Once it has ended, start it again.")]
Keep = Annotated[str, typer.Option("--keep", help="How long a signal waits for its execution.")]


def build() -> typer.Typer:
    """The group of commands."""
    app = typer.Typer(help="Webhooks: what they start or signal.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_hooks)
    app.command("show")(show)
    app.command("rotate")(rotate)
    app.command("delete")(delete)
    return app


def create(  # noqa: PLR0913  # options
    name: Name,
    scheme: Annotated[str, typer.Option("--scheme", help=f"How it is signed: {', '.join(SCHEMES)}.")],
    secret: Secret = None,
    mode: ModeOption = "start",
    workflow: Workflow = "",
    signal: Signal = "",
    id: IdOption = "",
    input: InputOption = "body",
    value: Value = "body",
    singleton: Singleton = False,
    keep: Keep = "1d",
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
    action = action_spec(mode, workflow, signal, (id, input, value), singleton, keep)
    generic = Hmac(
        header or "x-signature",
        cast(Algorithm, one_of("--algorithm", algorithm, ("sha256", "sha512"))),
        cast(Encoding, one_of("--encoding", encoding, ("hex", "base64"))),
        prefix,
        time_header,
        id_header,
    )
    spec = HookSpec(
        **msgspec.structs.asdict(action),
        name=name,
        scheme=cast(Scheme, one_of("--scheme", scheme, SCHEMES)),
        secrets=[secret_of(each) for each in secret or ()],
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
    if as_json:
        print_json([msgspec.to_builtins(each) for each in found])
        return
    if not found:
        note("there are no hooks; `edow hook create` makes one")
        return
    table = output.table("name", "scheme", "does", "execution id", "deliveries", flexible=("execution id",))
    for each in found:
        table.add_row(each.name, each.scheme, does(each), each.id or "one for each delivery", counted(each.counts))
    output.show(table)


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
    if as_json:
        print_json({"name": name, "deleted": True})
    else:
        print(f"hook {name} deleted")


def action_spec(  # options
    mode: str, workflow: str, signal: str, expressions: tuple[str, str, str], singleton: bool, keep: str
) -> ActionSpec:
    """Of the options that hooks and triggers share. `expressions`: id, input, value."""
    id, input, value = expressions
    how = cast(Mode, one_of("--mode", mode, MODES))
    return ActionSpec(
        mode=how, workflow=workflow, signal=signal, id=id, input=input, value=value, singleton=singleton, keep=keep
    )


def one_of(option: str, given: str, allowed: tuple[str, ...]) -> str:
    """Raises InvalidInput."""
    if given not in allowed:
        raise InvalidInput(f"{option} {given!r} is unknown; use {', '.join(allowed)}")
    return given


def does(view: ActionView) -> str:
    """In a few words."""
    parts = {"start": f"start {view.workflow}", "signal": f"signal {view.signal}"}
    return parts.get(view.mode) or f"{parts['signal']}, else {parts['start']}"


def counted(counts: dict[str, int]) -> str:
    """Those that are not zero."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


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
        print_json(msgspec.to_builtins(view))
        return
    facts = {
        "hook": view.name,
        "scheme": view.scheme,
        "secrets": ", ".join(view.secrets),
        "does": does(view),
        "execution id": view.id or "one for each delivery",
        "input": view.input if view.mode != "signal" else "",
        "value": view.value if view.mode != "start" else "",
        "delivery id": view.delivery or "the scheme's own",
        "tolerance": output.duration(view.tolerance_seconds * 1e6),
        "remembered": output.duration(view.remember_seconds * 1e6),
        "deliveries": counted(view.counts),
    }
    output.show(output.fields((name, value) for name, value in facts.items() if value))
    if done:
        note(done)
