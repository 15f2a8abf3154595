"""What comes in and goes out by itself, as pages show it: incoming webhooks, event triggers, and endpoints.

Of secrets it knows where they are, and of an endpoint's address nothing that may be one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from edow.cli.output import duration
from edow.client import Client
from edow.client.endpoints import EndpointView
from edow.client.hooks import ActionView, HookView
from edow.client.triggers import TriggerView
from edow.console.look import Look, now_us
from edow.errors import NotFound
from edow.trigger.tally import Recent

Family = Literal["hooks", "triggers", "endpoints"]
FAMILIES: tuple[Family, ...] = get_args(Family)
ACCEPTED = frozenset({"started", "attached", "signalled", "kept", "gathered", "challenge"})
LATER = frozenset({"delivered", "fired"})  # of what was accepted before
PASSED_OVER = frozenset({"unmatched", "duplicate", "filtered"})


class Count(msgspec.Struct, frozen=True):
    """How often something became of it. `tone` is a badge's class."""

    name: str
    count: int
    tone: str


class Entry(msgspec.Struct, frozen=True):
    """A hook, trigger or endpoint. `facts`: what it does, by name; `counts`: columns of the list. `given_up`: messages
    that wait in the dead-letter desk.
    """

    name: str
    state: str
    what: str
    facts: dict[str, str]
    counts: list[Count]
    all_counts: list[Count]
    recent: Sequence[Recent]
    given_up: int = 0


class EventsView(msgspec.Struct, frozen=True):
    now: int
    family: Family
    entries: list[Entry]


async def events_view(look: Look, family: Family) -> EventsView:
    return EventsView(now_us(), family, await look.shared.get(("events", family), lambda: _read(look.client, family)))


async def entry_of(look: Look, family: Family, name: str) -> Entry:
    """Raises NotFound."""
    found = next((each for each in (await events_view(look, family)).entries if each.name == name), None)
    if found is None:
        noun = family.removesuffix("s")
        raise NotFound(f"there is no {noun} {name!r}; `edow {noun} list` shows what there is")
    return found


def family_of(text: str) -> Family:
    """Of an address. Raises NotFound."""
    found = next((each for each in FAMILIES if each == text), None)
    if found is None:
        raise NotFound(f"there is no page of {text!r}; there are {', '.join(FAMILIES)}")
    return found


def tone_of(outcome: str) -> str:
    """Of a badge: what was done, what was nothing to do, and what was refused."""
    if outcome in ACCEPTED or outcome in LATER:
        return "ok"
    return "" if outcome in PASSED_OVER else "warn" if outcome == "failed_attempt" else "bad"


async def _read(client: Client, family: Family) -> list[Entry]:
    match family:
        case "hooks":
            recent = await client.hooks().recent()
            return [_hook(each, recent.get(each.name, [])) for each in await client.hooks().list()]
        case "triggers":
            recent = await client.triggers().recent()
            return [_trigger(each, recent.get(each.name, [])) for each in await client.triggers().list()]
        case "endpoints":
            recent = await client.endpoints().recent()
            return [_endpoint(each, recent.get(each.name, [])) for each in await client.endpoints().list()]


def _hook(view: HookView, recent: Sequence[Recent]) -> Entry:
    facts = {
        "Address": f"POST /hooks/{view.name}",
        "Signed by": view.scheme,
        "Secrets": ", ".join(view.secrets) or "none",
        **_action(view, "one for each delivery"),
        "Delivery id": view.delivery or "the scheme's own",
        "Remembered": duration(view.remember_seconds * 1e6),
    }
    return _entry(view.name, "active", _does(view), facts, view.counts, recent)


def _trigger(view: TriggerView, recent: Sequence[Recent]) -> Entry:
    gathers = ""
    if view.debounce_seconds:
        gathers = f"once nothing came for {duration(view.debounce_seconds * 1e6)}"
    elif view.batch:
        gathers = f"{view.batch} messages, or those of {duration(view.batch_wait_seconds * 1e6)}"
    facts = {
        "Topic": view.topic,
        "Consumer group": view.group,
        "Broker": view.transport or "the system's own",
        **_action(view, "one for each message"),
        "Filter": view.filter,
        "Gathers": gathers,
        "Remembered": duration(view.remember_seconds * 1e6),
    }
    state = "paused" if view.paused else "active"
    return _entry(view.name, state, f"{view.topic}: {_does(view)}", facts, view.counts, recent)


def _endpoint(view: EndpointView, recent: Sequence[Recent]) -> Entry:
    told = ", ".join(view.workflows)
    facts = {
        "Address": _address(view.url),
        "Secrets": ", ".join(view.secrets) or "none",
        "Workflows": told or "none: alerts alone",
        "Ends": ", ".join(view.statuses),
        "Results": "are sent" if view.results else "are not sent",
    }
    counts = [_count(name, view.counts.get(name, 0)) for name in OF_ENDPOINTS]
    return Entry(view.name, "active", _address(view.url), facts, counts, counts, recent, view.given_up)


OF_ENDPOINTS = ("delivered", "failed_attempt", "dead_letter")


def _entry(
    name: str, state: str, what: str, facts: dict[str, str], counts: dict[str, int], recent: Sequence[Recent]
) -> Entry:
    refused = [each for each in counts if each not in ACCEPTED | LATER | PASSED_OVER]
    columns = [
        Count("accepted", _sum(counts, ACCEPTED), "ok"),
        Count("unmatched", counts.get("unmatched", 0), ""),
        Count("duplicate", counts.get("duplicate", 0), ""),
        Count("refused", _sum(counts, refused), "bad"),
    ]
    every = [Count(each, count, tone_of(each)) for each, count in counts.items() if count]
    return Entry(name, state, what, {fact: value for fact, value in facts.items() if value}, columns, every, recent)


def _count(name: str, count: int) -> Count:
    """What has never happened is no reason to worry, nor to be glad."""
    return Count(name, count, tone_of(name) if count else "")


def _sum(counts: dict[str, int], names: Iterable[str]) -> int:
    return sum(counts.get(name, 0) for name in names)


def _does(view: ActionView) -> str:
    return {
        "start": f"starts {view.workflow}",
        "signal": f"signals {view.signal}",
        "start-or-signal": f"starts {view.workflow}, or signals {view.signal}",
    }[view.mode]


def _action(view: ActionView, otherwise: str) -> dict[str, str]:
    return {
        "Does": _does(view) + (", one at a time" if view.singleton else ""),
        "Execution id": view.id or otherwise,
        "Input": view.input if view.mode != "signal" else "",
        "Value": view.value if view.mode != "start" else "",
    }


def _address(url: str) -> str:
    """Without parameters: receivers put secrets there."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}" + ("?…" if parts.query else "")
