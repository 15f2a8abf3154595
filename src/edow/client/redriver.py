"""The loop that goes on with redrives in stages: beside every orchestrator, as many as there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import msgspec

from edow.client import redrives
from edow.client.redrives import KEPT_US, KIND, Fate, Redrive
from edow.errors import InvalidInput, NotAccepted, RecordChanged, Unavailable
from edow.model import history
from edow.store.contract import DeadLetter, DeadLetterFilter, Put, Record, RecordFilter, Store

log = logging.getLogger("edow.client")

BUSY_SECONDS = 0.2  # between two looks, while there is something to do
IDLE_SECONDS = 1.0


class Redriver:
    """Start and stop are idempotent; `run_once` goes on with all redrives, for those who drive it themselves.

    A redrive is taken a step further by whoever writes its record first; the others have done nothing.
    """

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="edow-redrives")

    async def stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def run_once(self) -> int:
        """Take every redrive that is not over a step further; how many there are. Raises Unavailable."""
        records = await self._store.records_list(RecordFilter(KIND))
        unfinished = [each for each in records if redrives.of_record(each).ended_at is None]
        for record in unfinished:
            await self._advance(record)
        return len(unfinished)

    async def _run(self) -> None:
        while True:
            try:
                busy = await self.run_once()
            except (Unavailable, InvalidInput) as problem:
                log.warning("redrives were not gone on with: %s; they will be", problem)
                busy = 0
            await asyncio.sleep(BUSY_SECONDS if busy else IDLE_SECONDS)

    async def _advance(self, record: Record) -> None:
        before = redrives.of_record(record)
        now = self._clock()
        redrive = redrives.settled(before, await self._fates(before))
        wanted = redrives.room(redrive, now)
        letters = await self._letters(redrive, wanted) if wanted else []
        redrive = redrives.moved_on(redrives.took(redrive, letters, now), bool(wanted and not letters), now)
        if redrive != before:
            await self._write(record, redrive, letters)

    async def _write(self, record: Record, redrive: Redrive, letters: Sequence[DeadLetter]) -> None:
        kept = None if redrive.ended_at is None else redrive.ended_at + KEPT_US
        put = Put(KIND, record.key, msgspec.json.encode(redrive), if_version=record.version, expires_at=kept)
        requests = [redrives.command(each, redrive.change) for each in letters]
        try:
            await self._store.records_put([put], self._clock(), requests)
        except (RecordChanged, NotAccepted) as problem:
            log.debug("redrive %s was gone on with by somebody else: %s", redrive.id, problem)

    async def _letters(self, redrive: Redrive, wanted: int) -> list[DeadLetter]:
        """Some that are not in hand."""
        in_hand = {each.id for each in redrive.in_hand}
        found = await self._store.dead_letters_list(redrives.selection(redrive, wanted + len(in_hand)))
        return [each for each in found if each.id not in in_hand and each.execution][:wanted]

    async def _fates(self, redrive: Redrive) -> dict[str, Fate]:
        sent = redrive.in_hand
        if not sent:
            return {}
        where = DeadLetterFilter(ids=[each.id for each in sent], state=None, limit=len(sent))
        letters = {each.id: each for each in await self._store.dead_letters_list(where)}
        rows = await self._store.executions_get([each.execution for each in sent])
        fates: dict[str, Fate] = {}
        for each, row in zip(sent, rows, strict=True):
            letter = letters.get(each.id)
            events: list[history.AnyEvent] = []
            if letter is not None and letter.state == "redriven":
                segments = await self._store.history_get(each.execution, each.run)
                events = [event for segment in segments for event in history.decoder.decode(segment)]
            fates[each.id] = redrives.fate(each, letter, row, events)
        return fates
