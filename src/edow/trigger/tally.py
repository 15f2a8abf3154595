"""How often what happened to hooks and triggers, and what happened last: kept in memory, and written to the store every
few seconds.

Both are for people and alarms: a process that is killed takes those of its last seconds with it.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from edow.background import Background, forever
from edow.errors import Unavailable
from edow.store.contract import Put, RecordFilter, Store
from edow.trigger.action import EVENTS, Family

log = logging.getLogger("edow.trigger")

FLUSH_SECONDS = 5.0
KEEP_US = 30 * 86_400_000_000  # counts of a process that has gone are forgotten after this
PREFIX = "count/"
LATEST = "last/"
MOST_LATEST = 20  # of each name and process
MOST_NAMES = 1000  # counted apart; others together under "?"


class Recent(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened at a moment. `execution`: which has it; `detail`: in words, without any payload."""

    at: int
    outcome: str
    execution: str = ""
    detail: str = ""


class Tally:
    """One process's counts of one family. Start and stop are idempotent."""

    def __init__(self, store: Store, clock: Callable[[], int], family: Family, process: str) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._store = store
        self._clock = clock
        self._family = family
        self._recent: dict[str, deque[Recent]] = {}
        self._process = process
        self._changed: set[str] = set()
        self._background = Background(("edow-tally", self._run))

    def add(self, name: str, outcome: str, execution: str = "", detail: str = "") -> None:
        """`name` of the hook or trigger; the rest as in `Recent`."""
        if name not in self.counts and len(self.counts) >= MOST_NAMES:
            name = "?"
        self.counts.setdefault(name, Counter())[outcome] += 1
        recent = self._recent.setdefault(name, deque(maxlen=MOST_LATEST))
        recent.append(Recent(self._clock(), outcome, execution, detail))
        self._changed.add(name)

    async def start(self) -> None:
        """Begin to add up."""
        self._background.start()

    async def stop(self) -> None:
        """Write what is left, if the store can be reached."""
        if not await self._background.stop():
            return
        try:
            await self.run_once()
        except Unavailable as problem:
            log.warning("counts of the last seconds are lost: %s", problem)

    async def run_once(self) -> None:
        """Write what has changed."""
        names, self._changed = self._changed, set()
        if not names:
            return
        until = self._clock() + KEEP_US
        puts = [put for name in sorted(names) for put in self._puts(name, until)]
        try:
            await self._store.records_put(puts, self._clock())
        except Unavailable:
            self._changed |= names
            raise

    def _puts(self, name: str, until: int) -> list[Put]:
        key = f"{self._family}/{name}/{self._process}"
        counts, recent = msgspec.json.encode(self.counts[name]), msgspec.json.encode(list(self._recent[name]))
        parts = ((PREFIX, counts), (LATEST, recent))
        return [Put(EVENTS, prefix + key, body, None, until, quiet=True) for prefix, body in parts]

    async def _run(self) -> None:
        await forever(self.run_once, "counts were not written", FLUSH_SECONDS)


async def totals(store: Store, family: Family, name: str | None = None) -> dict[str, Counter[str]]:
    """Over all processes, by name of hook or trigger."""
    found: dict[str, Counter[str]] = {}
    async for each, body in _records(store, f"{PREFIX}{family}/", name):
        found.setdefault(each, Counter()).update(msgspec.json.decode(body, type=dict[str, int]))
    return found


async def latest(store: Store, family: Family, name: str | None = None) -> dict[str, list[Recent]]:
    """What happened last, the newest first, by name of hook or trigger: of each process so many."""
    found: dict[str, list[Recent]] = {}
    async for each, body in _records(store, f"{LATEST}{family}/", name):
        found.setdefault(each, []).extend(msgspec.json.decode(body, type=list[Recent]))
    return {each: sorted(recent, key=lambda one: -one.at) for each, recent in found.items()}


async def _records(store: Store, prefix: str, name: str | None) -> AsyncIterator[tuple[str, bytes]]:
    after: str | None = None
    while records := await store.records_list(RecordFilter(EVENTS, prefix + (f"{name}/" if name else ""), after)):
        for record in records:
            yield record.key.removeprefix(prefix).rpartition("/")[0], record.body
        after = records[-1].key


def shown(counts: Mapping[str, int], outcomes: Sequence[str] = ()) -> dict[str, int]:
    """In a stable order."""
    return {each: counts.get(each, 0) for each in sorted({*counts, *outcomes})}
