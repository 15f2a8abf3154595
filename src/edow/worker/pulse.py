"""What running attempts say of themselves: heartbeats with details, and that they run at all."""

from __future__ import annotations

from collections.abc import Iterable

from edow.worker.attempt import Attempt
from edow.worker.publisher import Publisher
from edow.worker.reports import Reporter

BEAT_SECONDS = 1.0  # published heartbeats of an attempt are at least this far apart, or a third of its timeout
LONG_SECONDS = 20.0  # an attempt that runs for so long is reported, so that nobody takes its message for lost
AGAIN_SECONDS = 40.0  # ... and again, as long as it runs
DOUBT_SECONDS = 1.0  # ... and after so long already when it may have been called off before this worker could hear it
LOOK_SECONDS = 5.0


class Pulse:
    """Publishes when it is time. Driven by the floor's ticks."""

    def __init__(self, reporter: Reporter, publisher: Publisher) -> None:
        self._reporter = reporter
        self._publisher = publisher
        self._beating: set[Attempt] = set()
        self._looked_at = 0.0

    def begun(self, attempt: Attempt, now: float, *, tell: bool, doubt: bool) -> None:
        """`tell`: somebody waits to hear it, or may want to answer that the step needs no attempt any more.
        `doubt`: the same, should it last.
        """
        attempt.told_at = now - LONG_SECONDS + DOUBT_SECONDS if doubt else now
        if tell:
            self._publisher.add(self._reporter.started(attempt))

    def beats(self, attempts: Iterable[Attempt]) -> None:
        """These have reported; what they said last is published when it is time."""
        self._beating.update(attempts)

    def tick(self, now: float, running: Iterable[Iterable[Attempt]]) -> None:
        self._publish_beats(now)
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            for attempt in (attempt for place in running for attempt in place):
                if now - attempt.told_at >= LONG_SECONDS:
                    attempt.told_at = now + AGAIN_SECONDS - LONG_SECONDS
                    self._publisher.add(self._reporter.started(attempt))

    def _publish_beats(self, now: float) -> None:
        for attempt in list(self._beating):
            limit = attempt.event.heartbeatms
            pause = BEAT_SECONDS if limit is None else min(BEAT_SECONDS, limit / 3_000)
            if attempt.settled:
                self._beating.discard(attempt)
            elif now - attempt.published_at >= pause:
                self._beating.discard(attempt)
                attempt.published_at = now
                attempt.beat_queued = False
                self._publisher.add(self._reporter.heartbeat(attempt))
