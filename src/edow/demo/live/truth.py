"""The truth of the live demo: every effect that was applied, compared with what the ended executions had to apply.

Reads the demo's own database from where it stopped reading before. An effect is lost when an execution has ended
that should have applied it and it is not there; it was applied twice when it is there twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from edow.demo.effects import Effects


class Truth:
    def __init__(self, effects: Effects) -> None:
        self._effects = effects
        self._read = 0
        self._applied: Counter[str] = Counter()
        self._missing: set[str] = set()
        self.applied = 0
        self.twice = 0

    @property
    def lost(self) -> int:
        """Of executions that have ended."""
        return len(self._missing)

    def look(self) -> int:
        """Read what was applied since the last look; how many effects that were."""
        names, self._read = self._effects.since(self._read)
        for name in names:
            self._applied[name] += 1
            self._missing.discard(name)
            self.twice += self._applied[name] > 1
        self.applied += len(names)
        return len(names)

    def ended(self, expected: Iterable[str]) -> None:
        """An execution has ended, and these effects must be there: call `look` in between."""
        self.look()
        self._missing.update(name for name in expected if not self._applied[name])
