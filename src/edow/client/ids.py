"""Names of executions, made up when the caller gives none. A made-up id sorts by the time it was made.

Promises that what it makes passes `edow.workflow.naming.execution_id`.
"""

from __future__ import annotations

from collections.abc import Callable

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_PAIRS = [a + b for a in _DIGITS for b in _DIGITS]


class IdSource:
    """Makes `prefix-0123456789abcdefgh`: 50 bits of milliseconds, then 40 bits that grow within one millisecond."""

    def __init__(self, clock: Callable[[], int], chance: Callable[[int], int]) -> None:
        """`clock` gives microseconds; `chance(bits)` gives a random integer of so many bits."""
        self._clock = clock
        self._chance = chance
        self._millisecond = -1
        self._time = ""
        self._tail = 0

    def new(self, prefix: str) -> str:
        """Greater than every id this source has made before with the same prefix."""
        now = max(self._clock() // 1000, self._millisecond)
        if now != self._millisecond:
            self._begin(now)
        self._tail += 1
        return f"{prefix}-{self._time}{_base32(self._tail, 4)}"

    def _begin(self, millisecond: int) -> None:
        self._millisecond = millisecond
        self._time = _base32(millisecond, 5)
        self._tail = self._chance(39)  # one bit below the top leaves room to count


def _base32(number: int, pairs: int) -> str:
    digits = [_PAIRS[number >> (10 * place) & 1023] for place in range(pairs - 1, -1, -1)]
    return "".join(digits)
