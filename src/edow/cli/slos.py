"""`edow slo`, `edow alerts`, `edow incidents`, `edow price`: what should be, what is wrong, what was, what it costs."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, DecimalException
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from edow.cli import options, output
from edow.cli.commands import answer, group
from edow.cli.jsons import print_json
from edow.cli.session import with_client
from edow.client import Client
from edow.client.kpis import AlertSpec, AlertView, IncidentView, SloSpec, SloView
from edow.errors import InvalidInput
from edow.kpi.alert import Thresholds
from edow.kpi.cost import Prices
from edow.kpi.slo import said_of_budget
from edow.workflow.duration import optional_seconds

STYLES = {"page": "bold red", "ticket": "bold yellow"}
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the SLO.", show_default=False)]


def build() -> typer.Typer:
    """The group of commands."""
    return group(
        "Service level objectives: what should be, and how much may go wrong.",
        {"create": create, "list": list_slos, "show": show, "delete": delete},
    )


def create(  # noqa: PLR0913  # options
    name: Name,
    workflow: Annotated[str, typer.Option("--workflow", "-w", help="Whose executions.")],
    target: Annotated[str, typer.Option("--target", help="How many of them, like 99.9%.")],
    within: Annotated[str | None, typer.Option("--within", help="Complete within this time, like 30s.")] = None,
    window: Annotated[str, typer.Option("--window", help="Over the last so much time.")] = "30d",
    alert: Annotated[
        list[str] | None,
        typer.Option(
            "--alert",
            metavar="SEVERITY:BUDGET:LONG[:SHORT]",
            help="Instead of the usual ones: `page:2%:1h:5m` if 2% of the budget goes in 1h; repeatable.",
        ),
    ] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """Make an objective: so many executions complete, and in time if --within is given."""
    alerts = [_alert(each) for each in alert or ()]
    target_share = _share(target, "--target")
    spec = SloSpec(name=name, workflow=workflow, target=target_share, within=within, window=window, alerts=alerts)
    _show(with_client(store, lambda client: client.kpis().create_slo(spec)), as_json)


def list_slos(store: options.Store = None, as_json: options.Json = False) -> None:
    """All objectives and how they stand."""
    found = with_client(store, lambda client: client.kpis().slos())
    if as_json:
        print_json(found)
        return
    numbers = ("target", "attained", "error budget")
    table = output.table("name", "objective", *numbers, "alert", right=numbers)
    for each in found:
        alert = Text(each.severity or "–", style=STYLES.get(each.severity or "", ""))
        left = said_of_budget(each.budget_left)
        table.add_row(each.name, _aim(each), f"{each.target:.4%}", _attained(each), left, alert)
    output.show(table)


def show(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """An objective, its error budget, and how fast that goes."""
    _show(with_client(store, lambda client: client.kpis().slo(name)), as_json)


def delete(name: Name, store: options.Store = None, as_json: options.Json = False) -> None:
    """Delete an objective; its alerts are over."""
    with_client(store, lambda client: client.kpis().delete_slo(name))
    answer({"name": name, "deleted": True}, f"slo {name} deleted", as_json)


def alerts(store: options.Store = None, utc: options.Utc = False, as_json: options.Json = False) -> None:
    """What somebody should know now, and what was so before."""
    found: list[AlertView] = with_client(store, lambda client: client.kpis().alerts())
    if as_json:
        print_json(found)
        return
    table = output.table("since", "until", "severity", "kind", "subject", "message", flexible=("message",))
    for each in found:
        severity = Text(each.severity, style=STYLES[each.severity] if each.until is None else "dim")
        table.add_row(_time(each.since, utc), _time(each.until, utc), severity, each.kind, each.subject, each.message)
    output.show(table)


def thresholds(  # noqa: PLR0913  # options
    dead_letters: Annotated[int | None, typer.Option("--dead-letters", help="Of a task, in ten minutes.")] = None,
    dead_letter_share: Annotated[
        str | None, typer.Option("--dead-letter-share", help="... and more than this of its attempts, like 5%.")
    ] = None,
    oldest: Annotated[str | None, typer.Option("--oldest", help="A message waits for longer than this.")] = None,
    waiting: Annotated[int | None, typer.Option("--waiting", help="So many wait in a group; 0: however many.")] = None,
    inbox: Annotated[str | None, typer.Option("--inbox", help="Nobody has taken a command for so long.")] = None,
    overdue: Annotated[int | None, typer.Option("--overdue", help="So many executions make no progress.")] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """From when on there are alerts of dead letters, lag and stuck executions: show it, or set what is given."""
    given: dict[str, object] = {
        "dead_letters": dead_letters,
        "dead_letter_share": None if dead_letter_share is None else _share(dead_letter_share, "--dead-letter-share"),
        "oldest_seconds": optional_seconds(oldest, "--oldest"),
        "waiting": waiting,
        "inbox_seconds": optional_seconds(inbox, "--inbox"),
        "overdue": overdue,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if waiting == 0:
        changes["waiting"] = None

    async def work(client: Client) -> Thresholds:
        before = await client.kpis().thresholds()
        if not changes:
            return before
        return await client.kpis().set_thresholds(msgspec.structs.replace(before, **changes))

    found = with_client(store, work)
    if as_json:
        print_json(found)
    else:
        output.show(output.fields(_limits(found)))


def _limits(found: Thresholds) -> list[tuple[str, str]]:
    return [
        ("dead letters", f"{found.dead_letters:,} in 10 min, more than {found.dead_letter_share:.2%} of the attempts"),
        ("oldest message", output.duration(found.oldest_seconds * 1e6)),
        ("messages waiting", "–" if found.waiting is None else f"{found.waiting:,}"),
        ("oldest command", output.duration(found.inbox_seconds * 1e6)),
        ("overdue executions", f"{found.overdue:,}"),
    ]


def incidents(store: options.Store = None, utc: options.Utc = False, as_json: options.Json = False) -> None:
    """What broke, and how long it took until work went on and what had piled up was done."""
    found: list[IncidentView] = with_client(store, lambda client: client.kpis().incidents())
    if as_json:
        print_json(found)
        return
    numbers = ("first progress", "recovered", "most waited")
    table = output.table("fault", "what", *numbers, right=numbers, flexible=("what",))
    for each in found:
        times = [_duration(each.seconds_to_progress), _duration(each.seconds_to_recover)]
        table.add_row(_time(each.fault_at, utc), each.cause, *times, f"{each.backlog_most:,}")
    output.show(table)


def price(
    worker_hour: Annotated[float | None, typer.Option("--worker-hour", help="Of an hour of a worker.")] = None,
    million_messages: Annotated[float | None, typer.Option("--million-messages", help="Of a million messages.")] = None,
    gigabyte: Annotated[float | None, typer.Option("--gigabyte", help="Of 10^9 bytes of messages.")] = None,
    currency: Annotated[str | None, typer.Option("--currency", help="Like EUR.")] = None,
    store: options.Store = None,
    as_json: options.Json = False,
) -> None:
    """The price list by which costs are told in money: show it, or set what is given."""
    given = {
        "worker_hour": worker_hour,
        "million_messages": million_messages,
        "gigabyte": gigabyte,
        "currency": currency,
    }
    changes = {name: value for name, value in given.items() if value is not None}

    async def work(client: Client) -> Prices:
        before = await client.kpis().prices() or Prices()
        if not changes:
            return before
        return await client.kpis().set_prices(msgspec.structs.replace(before, **changes))

    found = with_client(store, work)
    if as_json:
        print_json(found)
    else:
        told = msgspec.structs.asdict(found)
        output.show(output.fields((name.replace("_", " "), f"{value}") for name, value in told.items()))


def _alert(text: str) -> AlertSpec:
    """`page:2%:1h:5m`."""
    severity, *rest = text.split(":")
    if severity not in ("page", "ticket") or len(rest) not in (2, 3):
        raise InvalidInput(f"--alert {text!r} is no alert: give SEVERITY:BUDGET:LONG[:SHORT], like page:2%:1h:5m")
    short = rest[2] if len(rest) > 2 else None
    return AlertSpec(severity=severity, budget=_share(rest[0], "--alert"), long=rest[1], short=short)  # type: ignore[arg-type]


def _share(text: str, option: str) -> float:
    """Divided as it is written: 99.9% is 0.999, and not a little more."""
    try:
        return float(Decimal(text.removesuffix("%")) / (100 if text.endswith("%") else 1))
    except DecimalException:
        raise InvalidInput(f"{option} {text!r} is not a share: give one like 99.9% or 0.999") from None


def _show(slo: SloView, as_json: bool) -> None:
    if as_json:
        print_json(slo)
        return
    facts = [
        ("slo", slo.name),
        ("objective", _aim(slo)),
        ("target", f"{slo.target:.4%} over {output.duration(slo.window_seconds * 1e6)}"),
        ("attained", f"{_attained(slo)} ({slo.good:,} of {slo.total:,})"),
        ("error budget", f"{_may_fail(slo)}: {said_of_budget(slo.budget_left)}"),
    ]
    output.show(output.fields(facts), _burns(slo))


def _may_fail(slo: SloView) -> str:
    if not slo.total:
        return f"{1 - slo.target:.4%} of the executions may fail"
    few = f"{slo.budget:,.0f}" if slo.budget >= 1 else "less than one"
    return f"{few} of {slo.total:,} execution{'' if slo.total == 1 else 's'} may fail"


def _burns(slo: SloView) -> Table:
    numbers = ("over", "rate", "and over", "rate then", "fires from")
    table = output.table("alert", *numbers, right=numbers)
    for burn in slo.burns:
        times = output.duration(burn.long_seconds * 1e6), output.duration(burn.short_seconds * 1e6)
        style = STYLES[burn.severity] if burn.fires else ""
        rates = (times[0], f"{burn.long_rate:.2f}", times[1], f"{burn.short_rate:.2f}", f"{burn.threshold:.2f}")
        table.add_row(Text(burn.severity, style=style), *rates)
    return table


def _aim(slo: SloView) -> str:
    in_time = "" if slo.within_seconds is None else f" within {output.duration(slo.within_seconds * 1e6)}"
    return f"{slo.workflow} completes{in_time}"


def _attained(slo: SloView) -> str:
    return "–" if slo.attained is None else f"{slo.attained:.4%}"


def _time(at: datetime | None, utc: bool) -> str:
    return "–" if at is None else output.moment(round(at.timestamp() * 1_000_000), utc)


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else output.duration(seconds * 1_000_000)
