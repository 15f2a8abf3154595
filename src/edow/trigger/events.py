"""Event triggers: what a message on a topic starts or signals. Pure: definitions, and how a message is understood.

A message is a CloudEvent in JSON, or any other JSON. Of a CloudEvent the source and id tell it from all others; of
other messages an expression does, or else their key and bytes: then two alike within `remember` are taken for one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from edow.errors import InvalidInput
from edow.transport.contract import Delivery
from edow.trigger.action import DAY, Action, Claim, Plan, digest
from edow.trigger.hooks import TRACEPARENT, checked_name
from edow.trigger.mapping import Expression
from edow.workflow import codec

TRIGGERS = "trigger"  # kinds of records
SEEN = "seen/"  # keys of records of the kind EVENTS: what was applied
OUTCOMES = (
    *("started", "attached", "signalled", "kept", "delivered", "unmatched", "duplicate"),
    *("gathered", "fired", "filtered", "poison"),
)
TOPIC = re.compile(r"(?=.{1,249}\Z)[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)*")  # brokers take these, and few take others
MAX_BATCH = 1000
LONGEST = 30 * DAY  # quiet period, or wait of a batch
SYSTEM = "edow."  # topics that are EDOW's own
ALL_BODIES = "{events: events[].body}"


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A definition. `filter` and `event_id` are expressions; times in seconds.

    `debounce`: once so long nothing has come for an execution's id, one execution is started, with the last event; at
    the latest `max_wait` after the first. `batch`: one for so many events, or for those of `batch_wait` since the
    first.
    """

    name: str
    topic: str
    action: Action
    group: str = ""  # "": edow-trigger-NAME
    transport: str = ""  # a URL, or env:NAME of one; "": the system's own
    filter: str = ""
    event_id: str = ""
    remember: float = DAY
    debounce: float = 0.0
    max_wait: float = 0.0  # 0: ten times the quiet period
    batch: int = 0
    batch_wait: float = 60.0
    paused: bool = False

    @property
    def consumer_group(self) -> str:
        return self.group or f"edow-trigger-{self.name}"

    @property
    def gathers(self) -> bool:
        """Whether several events make one execution."""
        return self.debounce > 0 or self.batch > 0

    def checked(self) -> Trigger:
        """Itself, if it can be. Raises InvalidInput."""
        what = f"trigger {self.name!r}"
        checked_name(self.name, "trigger")
        if not self.topic or self.topic.startswith(SYSTEM):
            raise InvalidInput(f"topic {self.topic!r} of {what} is EDOW's own, or none; name another one")
        if not TOPIC.fullmatch(self.topic):
            raise InvalidInput(
                f"topic {self.topic!r:.300} of {what} can be no topic's name: use up to 249 letters, "
                "digits, '-', '_', ':', and single dots between them"
            )
        if not 1 <= self.remember <= 366 * DAY:
            raise InvalidInput(f"remember of {what} must be from 1 s to 366 days, not {self.remember:g} s")
        self.action.check(what)
        for name in ("filter", "event_id"):
            if text := getattr(self, name):
                Expression(text, f"the {name} of {what}")
        self._check_gathering(what)
        return self

    def _check_gathering(self, what: str) -> None:
        if self.debounce and self.batch:
            raise InvalidInput(f"{what} cannot both debounce and batch; choose one")
        if self.gathers and (self.action.mode != "start" or not self.action.id or self.action.singleton):
            raise InvalidInput(f"{what} gathers events: it needs the mode start, an id to gather by, and no singleton")
        if not 0 <= self.debounce <= LONGEST or not 0 <= self.max_wait <= LONGEST:
            raise InvalidInput(f"debounce and max wait of {what} must be from 0 to 30 days")
        if self.max_wait and self.max_wait < self.debounce:
            raise InvalidInput(f"max wait of {what} ({self.max_wait:g} s) is shorter than its quiet period")
        if not 0 <= self.batch <= MAX_BATCH:
            raise InvalidInput(f"batch of {what} must be from 1 to {MAX_BATCH} events, not {self.batch}")
        if self.batch and not 0 < self.batch_wait <= LONGEST:
            raise InvalidInput(f"batch wait of {what} must be above 0 and at most 30 days, not {self.batch_wait:g} s")


class Event(msgspec.Struct, frozen=True):
    """A message understood. `id`: what tells it from all others, short."""

    id: str
    context: dict[str, object]  # what expressions see
    trace: str


class Compiled:
    """A trigger with its expressions compiled."""

    def __init__(self, trigger: Trigger) -> None:
        what = f"trigger {trigger.name!r}"
        self.trigger = trigger
        action = trigger.action
        if trigger.batch and action.input == "body":
            action = msgspec.structs.replace(action, input=ALL_BODIES)
        self.plan = Plan(action, what)
        self._filter = Expression(trigger.filter, f"the filter of {what}") if trigger.filter else None
        self._event_id = Expression(trigger.event_id, f"the event id of {what}") if trigger.event_id else None

    def event(self, delivery: Delivery) -> Event | None:
        """None: filtered out. Raises InvalidInput for what cannot be understood."""
        payload = _decoded(delivery.body)
        attributes = _attributes(payload)
        body = payload.get("data") if attributes and isinstance(payload, dict) else payload
        context: dict[str, object] = {
            "body": body,
            "event": attributes,
            "key": delivery.key,
            "topic": delivery.topic,
        }
        if self._filter is not None and not self._filter.holds(context):
            return None
        trace = str(attributes.get("traceparent", ""))
        return Event(self._id(delivery, context, attributes), context, trace if TRACEPARENT.fullmatch(trace) else "")

    def key(self, event: Event) -> str:
        """The execution's id, made up from the event's where nothing else is said. Raises InvalidInput."""
        return self.plan.key(event.context) or f"{self.trigger.action.workflow}-{event.id[:20]}"

    def claim(self, event: Event, now: int) -> Claim:
        """Of an event that is applied now."""
        name = self.trigger.name
        until = now + round(self.trigger.remember * 1_000_000)
        return Claim("triggers", name, "event", f"{SEEN}{name}/{event.id}", until)

    def _id(self, delivery: Delivery, context: object, attributes: Mapping[str, object]) -> str:
        if self._event_id is not None:
            found = self._event_id.text_of(context)
            if found is None:
                raise InvalidInput(f"the event id of trigger {self.trigger.name!r} finds nothing in this message")
            return digest("id", found)
        if attributes:
            return digest("cloudevent", str(attributes["source"]), str(attributes["id"]))
        return digest("bytes", delivery.topic, delivery.key or "", delivery.body)


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (*codec.DECODE_ERRORS, UnicodeDecodeError):
        raise InvalidInput("the message is not JSON") from None


def _attributes(payload: object) -> dict[str, object]:
    """Of a CloudEvent, without its data; of anything else none."""
    if not isinstance(payload, dict) or not all(
        isinstance(payload.get(name), str) for name in ("specversion", "id", "source", "type")
    ):
        return {}
    return {name: value for name, value in payload.items() if name not in ("data", "data_base64")}
