"""The loop that goes on with redrives in stages: beside every orchestrator, as many as there are."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec

from edow.client import redrives
from edow.client.redrives import KEPT_US, KIND, Fate, Redrive
from edow.client.stepping import Stepping
from edow.errors import NotAccepted, RecordChanged
from edow.model import history
from edow.store.contract import DeadLetter, DeadLetterFilter, Put, Record

log = logging.getLogger("edow.client")


class Redriver(Stepping):
    """Takes every redrive a step further: hears what became of letters in hand, and takes some more."""

    kind = KIND
    what = "redrives"
    busy_seconds = 0.2

    def _is_over(self, record: Record) -> bool:
        return redrives.of_record(record).ended_at is not None

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
