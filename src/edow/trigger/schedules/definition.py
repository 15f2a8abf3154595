"""What a schedule is: a workflow with its input, when to start it, and what to do when the last one still runs.

`Schedule` is what people write and what is stored; `Plan` is the same, checked and ready to be asked for ticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from edow.errors import InvalidInput
from edow.trigger.schedules.cron import MICROSECONDS, Cron
from edow.trigger.schedules.zones import LAST_YEAR, zone_named
from edow.workflow import codec
from edow.workflow.duration import microseconds, seconds
from edow.workflow.naming import MAX_ID, definition_name, execution_id

Overlap = Literal["skip", "buffer_one", "buffer_all", "cancel_other", "allow_all"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)

MAX_NAME = MAX_ID - len("@2026-11-28T20:00:00.123456Z")
MAX_INPUT_BYTES = 128 * 1024  # it is read and written with each tick
MAX_DEPTH = 64  # of the input
SHORTEST = MICROSECONDS  # of an interval
GRAIN = 1000  # microseconds; ticks are whole milliseconds, and what is started by hand is not
LEAST_CATCH_UP = 10 * MICROSECONDS  # for whoever was only a little late
LONGEST = "3650d"  # of an interval, and to catch up
MOST_RUNS = 1_000_000_000
MOST_JITTER = "1d"
CATCH_UP = 86_400.0  # seconds

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PLACEHOLDER = re.compile(r"\{\{\s*(\w*)\s*\}\}")
PLACEHOLDERS = ("schedule", "scheduled_time", "scheduled_local", "scheduled_date")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Start `workflow` with `input` (parameters by name) at the ticks of either `cron` or `every`.

    Strings in the input may hold {{scheduled_time}} (the tick, RFC 3339 UTC), {{scheduled_local}} (the same in the time
    zone), {{scheduled_date}} (its date there) and {{schedule}} (the name). Durations: "90s" or seconds.
    """

    workflow: str
    input: dict[str, Any] = {}
    cron: str | None = None
    every: str | float | None = None
    anchor: datetime | None = None  # from which intervals are counted; default: the epoch
    timezone: str = "UTC"
    jitter: str | float = 0.0  # each tick is late by up to this; the same tick always by as much
    overlap: Overlap = "skip"
    catch_up: str | float = CATCH_UP  # ticks that nobody was there for are made up for within this
    start: datetime | None = None  # no tick before
    end: datetime | None = None  # no tick after
    runs: int | None = None  # no more than so many

    def checked(self) -> Schedule:
        """In the form that is stored. Raises InvalidInput, naming what is wrong."""
        if self.overlap not in OVERLAPS:
            raise InvalidInput(f"overlap {self.overlap!r} is unknown; use {', '.join(OVERLAPS)}")
        _check_types(self)
        definition_name(self.workflow, "workflow")
        if (self.cron is None) == (self.every is None):
            raise InvalidInput("a schedule has either a cron, like '0 2 * * *', or an interval, like every='90s'")
        if self.runs is not None and not 1 <= self.runs <= MOST_RUNS:
            raise InvalidInput(f"runs {self.runs} is not between 1 and {MOST_RUNS:,}; leave it out for no limit")
        if self.anchor is not None and self.every is None:
            raise InvalidInput("an anchor is for intervals (every=...); a cron has its own times")
        made = msgspec.structs.replace(
            self,
            input=_checked_input(self.input),
            every=None if self.every is None else _seconds(self.every, "every", LONGEST),
            jitter=_seconds(self.jitter, "jitter", MOST_JITTER),
            catch_up=_seconds(self.catch_up, "catch_up", LONGEST),
            **{name: _utc(name, getattr(self, name)) for name in ("anchor", "start", "end")},
        )
        plan = Plan("", made)
        if next(plan.ticks(-1), None) is None:
            raise InvalidInput("this schedule never fires: there is no tick between its start and its end")
        return made


class Plan:
    """A schedule's ticks. All moments are microseconds since the epoch."""

    def __init__(self, name: str, schedule: Schedule) -> None:
        """Raises InvalidInput."""
        self.name = name
        self.schedule = schedule
        self.zone = zone_named(schedule.timezone)
        self.jitter = microseconds(schedule.jitter, "jitter")
        self.catch_up = max(microseconds(schedule.catch_up, "catch_up"), LEAST_CATCH_UP)
        self._cron = Cron(schedule.cron, schedule.timezone) if schedule.cron is not None else None
        self._every = microseconds(schedule.every or 0.0, "every")
        self._anchor = moment(schedule.anchor) or 0
        self._start = moment(schedule.start) or 0
        self._end = moment(schedule.end)
        if self._cron is None and (self._every < SHORTEST or self._every % GRAIN or self._anchor % GRAIN):
            raise InvalidInput(
                f"every={schedule.every!r} is no interval; it is at least 1s, and whole milliseconds like its anchor"
            )

    def ticks(self, after: int) -> Iterator[int]:
        """Those after a moment, in order, between start and end."""
        for tick in self.times(max(after, self._start - 1)):
            if self._end is not None and tick > self._end:
                return
            yield tick

    def times(self, after: int) -> Iterator[int]:
        """As cron or interval say, whatever start and end are: what a backfill goes through."""
        return self._cron.after(after) if self._cron is not None else self._intervals(after)

    def fires(self, tick: int) -> int:
        """When a tick is acted on: late by its jitter, which is the same whoever asks."""
        if not self.jitter:
            return tick
        chance = blake2b(f"{self.name}\0{tick}".encode(), digest_size=8).digest()
        return tick + int.from_bytes(chance) * self.jitter // (1 << 64)

    def input(self, tick: int) -> msgspec.Raw:
        """Of the execution of a tick."""
        values = _filled(self.schedule.input, _values(self.name, tick, self.zone))
        return codec.encode(values, f"the input of schedule {self.name!r}")

    def _intervals(self, after: int) -> Iterator[int]:
        tick = self._anchor + ((after - self._anchor) // self._every + 1) * self._every
        while tick < LAST_TICK:
            yield tick
            tick += self._every


def schedule_name(name: object) -> str:
    """`name` itself, if it may name a schedule. Raises InvalidInput."""
    try:
        text = execution_id(name, MAX_NAME)
    except InvalidInput as problem:
        raise InvalidInput(str(problem).replace("execution id", "schedule name")) from None
    if "@" in text:
        raise InvalidInput(f"schedule name {text!r} contains '@', which stands before the time of each tick")
    return text


def execution_of(name: str, tick: int) -> str:
    """The id of a tick's execution: `nightly@2026-11-28T20:00:00Z`."""
    return f"{name}@{instant(tick)}"


def instant(at: int) -> str:
    """RFC 3339 in UTC, with as many digits as there are."""
    return utc(at).isoformat().replace("+00:00", "Z")


def moment(at: datetime | None) -> int | None:
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)


def moment_of(what: str, at: datetime) -> int:
    """Raises InvalidInput for a time without an offset."""
    checked = _utc(what, at)
    return 0 if checked is None else moment(checked) or 0


def utc(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


LAST_TICK = (datetime(LAST_YEAR, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def _utc(what: str, at: datetime | None) -> datetime | None:
    if at is None:
        return None
    if at.tzinfo is None:
        raise InvalidInput(f"{what} {at.isoformat()} has no offset; write it like 2026-11-28T20:00:00Z or with +01:00")
    if not 1970 <= at.year < LAST_YEAR or (at := at.astimezone(UTC)).year < 1970:
        raise InvalidInput(f"{what} {at.isoformat()} is not between 1970 and {LAST_YEAR}")
    return at


def _values(name: str, tick: int, zone: ZoneInfo) -> Mapping[str, str]:
    local = utc(tick).astimezone(zone)
    shown = (name, instant(tick), local.isoformat(), local.date().isoformat())
    return dict(zip(PLACEHOLDERS, shown, strict=True))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    """A copy with the placeholders in its strings filled in."""
    match value:
        case str():
            return _PLACEHOLDER.sub(lambda found: values[found[1]], value) if "{{" in value else value
        case dict():
            return {name: _filled(each, values) for name, each in value.items()}
        case list():
            return [_filled(each, values) for each in value]
    return value


def _seconds(value: str | float, what: str, most: str) -> float:
    found = seconds(value, what)
    if found > seconds(most, what):
        raise InvalidInput(f"{what}={value!r} is too long; the longest is {most}")
    return found


def _check_types(schedule: Schedule) -> None:
    """Whoever writes Python may write anything."""
    values = {name: getattr(schedule, name) for name in schedule.__struct_fields__}
    try:
        msgspec.convert(values | {"input": {}}, Schedule)
    except msgspec.ValidationError as problem:
        raise InvalidInput(f"this is no schedule: {problem}; see edow.Schedule") from problem


def _checked_input(values: object) -> dict[str, Any]:
    """As plain JSON."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InvalidInput(f'the input must be an object of parameters by name, like {{"day": 7}}, not {values!r:.80}')
    body = codec.encode(dict(values), "the input of a schedule")
    if len(body) > MAX_INPUT_BYTES:
        raise InvalidInput(
            f"the input of a schedule has {len(body):,} bytes, and {MAX_INPUT_BYTES:,} at most are kept; "
            "store it elsewhere and pass its name"
        )
    plain: dict[str, Any] = msgspec.json.decode(body)
    for name in _placeholders(plain, MAX_DEPTH):
        if name not in PLACEHOLDERS:
            known = ", ".join(f"{{{{{each}}}}}" for each in PLACEHOLDERS)
            raise InvalidInput(f"the input holds {{{{{name}}}}}, which is no placeholder; there are {known}")
    return plain


def _placeholders(value: Any, depth: int) -> Iterator[str]:
    if not depth:
        raise InvalidInput(f"the input of a schedule is nested more than {MAX_DEPTH} deep; make it flatter")
    match value:
        case str():
            yield from _PLACEHOLDER.findall(value)
        case dict():
            for each in value.values():
                yield from _placeholders(each, depth - 1)
        case list():
            for each in value:
                yield from _placeholders(each, depth - 1)
