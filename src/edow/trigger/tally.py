"""How often what happened to hooks and triggers: counted in memory, added up in the store every few seconds.

Counts are for people and alarms: a process that is killed takes those of its last seconds with it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec

from edow.background import Background, forever
from edow.errors import Unavailable
from edow.store.contract import Put, RecordFilter, Store
from edow.trigger.action import EVENTS, Family

log = logging.getLogger("edow.trigger")

FLUSH_SECONDS = 5.0
KEEP_US = 30 * 86_400_000_000  # counts of a process that has gone are forgotten after this
PREFIX = "count/"
MOST_NAMES = 1000  # counted apart; others together under "?"


class Tally:
    """One process's counts of one family. Start and stop are idempotent."""

    def __init__(self, store: Store, clock: Callable[[], int], family: Family, process: str) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self._store = store
        self._clock = clock
        self._prefix = f"{PREFIX}{family}/"
        self._process = process
        self._changed: set[str] = set()
        self._background = Background(("edow-tally", self._run))

    def add(self, name: str, outcome: str, count: int = 1) -> None:
        """`name` of the hook or trigger."""
        if name not in self.counts and len(self.counts) >= MOST_NAMES:
            name = "?"
        self.counts.setdefault(name, Counter())[outcome] += count
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
        puts = [
            Put(EVENTS, f"{self._prefix}{name}/{self._process}", msgspec.json.encode(self.counts[name]), None, until)
            for name in sorted(names)
        ]
        try:
            await self._store.records_put(puts, self._clock())
        except Unavailable:
            self._changed |= names
            raise

    async def _run(self) -> None:
        await forever(self.run_once, "counts were not written", FLUSH_SECONDS)


async def totals(store: Store, family: Family, name: str | None = None) -> dict[str, Counter[str]]:
    """Over all processes, by name of hook or trigger."""
    prefix = f"{PREFIX}{family}/" + (f"{name}/" if name else "")
    found: dict[str, Counter[str]] = {}
    after: str | None = None
    while records := await store.records_list(RecordFilter(EVENTS, prefix, after)):
        for record in records:
            each = record.key.removeprefix(f"{PREFIX}{family}/").rpartition("/")[0]
            found.setdefault(each, Counter()).update(msgspec.json.decode(record.body, type=dict[str, int]))
        after = records[-1].key
    return found


def shown(counts: Mapping[str, int], outcomes: Sequence[str] = ()) -> dict[str, int]:
    """In a stable order."""
    return {each: counts.get(each, 0) for each in sorted({*counts, *outcomes})}
