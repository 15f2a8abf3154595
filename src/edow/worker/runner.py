"""What the floor asks of whatever runs user code: threads, processes or the task loop behind one small contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from edow.worker.attempt import Attempt

Kind = Literal["async", "thread", "process"]


class Runner(Protocol):
    """Ended attempts are handed back, in batches, through the `Mailbox` given at construction."""

    @property
    def size(self) -> int:
        """How many attempts it can run at once, now."""

    @property
    def zombies(self) -> int:
        """Threads or loops that were left behind and are still stuck."""

    def start(self) -> None: ...

    def submit(self, attempts: Sequence[Attempt]) -> None:
        """Call their functions. Never more than `size` in all; does not block."""

    def stop_attempt(self, attempt: Attempt) -> bool:
        """Make it end. True: do not wait for it, whatever it still does has no influence and frees its place.
        False: it has been told to, and will be handed back when it has ended.
        """

    def abandon(self, attempt: Attempt) -> None:
        """It was told to end and has not; go on without it."""

    def tick(self) -> None:
        """Called every `tick_seconds` while something runs."""

    def close(self, wait_seconds: float) -> None:
        """Leave no thread or process behind that can be ended within the wait. Idempotent."""
