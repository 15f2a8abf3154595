"""Watches the workers: who was heard of, said no goodbye and is silent was lost.

One process at a time calls the roll, while there is work. It knows whom it has heard itself: a worker that dies while
that duty changes hands is not missed.
"""

from __future__ import annotations

from edow.errors import EdowError
from edow.kpi.incident import Attempt, Lost
from edow.model import wire
from edow.monitor.roll import Roll
from edow.transport.contract import Transport

SECOND = 1_000_000
EVERY = 2 * SECOND  # between two calls
ANSWERS = 20  # a second, at most on average: of many workers the roll is called less often
PATIENCE = 10 * SECOND  # of silence
FOLLOWED = 10  # attempts of a lost worker


class Watch:
    """Of one transport's workers."""

    def __init__(self, transport: Transport) -> None:
        self._roll = Roll(transport, "monitor")
        self._roll.hear = self._hear
        self._heard: dict[str, tuple[int, wire.Presence]] = {}
        self._lost: list[Lost] = []
        self._called_at = 0
        self._calling_since = 0  # without a long pause

    async def call(self, now: int) -> list[Lost]:
        """Call if it is time; who was lost. Raises Unavailable: then nobody's silence means anything."""
        pause = max(EVERY, len(self._heard) * SECOND // ANSWERS)
        if not self._roll.possible or now < self._called_at + pause:
            return []
        if now > self._called_at + 2 * pause + PATIENCE:
            self._heard.clear()  # nobody was asked for long
            self._calling_since = now
        self._called_at = now
        try:
            await self._roll.call()
        except EdowError:
            self._heard.clear()
            self._calling_since = now
            raise
        self._miss(now - max(PATIENCE, 3 * pause))
        lost, self._lost = self._lost, []
        return lost

    def served(self, now: int) -> list[str] | None:
        """The names of all task topics that some worker serves; None: not known, for the roll was not called for long
        enough.
        """
        if now - self._called_at > PATIENCE or now - self._calling_since < PATIENCE:
            return None
        names = {name for _, presence in self._heard.values() for name in presence.topics}
        return sorted(names)

    def _hear(self, name: str, presence: wire.Presence) -> None:
        known = self._heard.get(name)
        if known is not None and known[1].startedat != presence.startedat:
            self._note(name, *known)  # another has its name
        self._heard[name] = self._called_at, presence
        if presence.leaving:
            del self._heard[name]

    def _miss(self, since: int) -> None:
        for name, (at, presence) in list(self._heard.items()):
            if at < since:
                del self._heard[name]
                self._note(name, at, presence)

    def _note(self, name: str, at: int, presence: wire.Presence) -> None:
        """Who has nothing in hand may go without a word."""
        tasks = presence.running + presence.waiting + presence.unpublished
        if tasks:
            held = [Attempt(each.executionid, each.run, each.step) for each in presence.busy[:FOLLOWED]]
            self._lost.append(Lost(name, at, tasks, held))
