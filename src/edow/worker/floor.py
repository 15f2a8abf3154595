"""Where the worker's attempts are: waiting, running, told to stop, ended. The one place that decides about them.

Does no I/O: it takes deliveries that were received, hands attempts to the runners and answers to the publisher.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from heapq import nsmallest

from edow.model.failure import Failure
from edow.model.policy import RetryPolicy
from edow.model.wire import TaskEvent
from edow.transport.contract import Delivery
from edow.worker.attempt import Attempt, Held, Lane, Stopped, Told, make_context, traceparent_of
from edow.worker.config import WorkerConfig
from edow.worker.deadlines import Deadlines
from edow.worker.intake import Intake, Poison, Postponed, Refused
from edow.worker.publisher import Publisher
from edow.worker.pulse import Pulse
from edow.worker.reports import Reporter
from edow.worker.runner import Kind, Runner

REMEMBERED_CANCELS = 100_000
PREFETCH_PER_SLOT = 8

log = logging.getLogger("edow.worker")


class PoisonAnswer:
    """What acknowledges a delivery that is no task event."""

    __slots__ = ("deliveries", "lane")

    def __init__(self, delivery: Delivery, lane: Lane) -> None:
        self.deliveries = [delivery]
        self.lane = lane


class Place:
    """Attempts of one kind of task, and what runs them."""

    def __init__(self, runner: Runner, prefetch: int) -> None:
        self.runner = runner
        self.prefetch = prefetch
        self.waiting: deque[Attempt] = deque()
        self.running: set[Attempt] = set()
        self.backing_off: set[Held] = set()

    @property
    def room(self) -> int:
        size = self.runner.size
        prefetch = min(self.prefetch, PREFETCH_PER_SLOT * size)
        return size + prefetch - len(self.waiting) - len(self.running) - len(self.backing_off)


class Floor:
    """`intake` judges, `runners` run, `publisher` answers; `on_room` is called when there may be room for more."""

    def __init__(
        self,
        config: WorkerConfig,
        intake: Intake,
        runners: Mapping[Kind, Runner],
        reporter: Reporter,
        publisher: Publisher,
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._intake = intake
        self._reporter = reporter
        self._publisher = publisher
        self._clock = clock
        self._places = {kind: Place(runner, config.prefetch) for kind, runner in runners.items()}
        self._held: dict[str, Held] = {}
        self._deadlines = Deadlines()
        self.pulse = Pulse(reporter, publisher)
        self._cancelled: OrderedDict[str, None] = OrderedDict()
        self._handed_back: list[Held] = []
        self._left: list[Held] = []
        self.hears_since = ""  # RFC 3339: tasks that were published later cannot be called off without our hearing it
        self.on_beat: Callable[[Attempt], None] | None = None
        self.on_room: Callable[[], None] = _nothing  # something ended: there may be room, or nothing left
        self.on_begin: Callable[[], None] = _nothing  # something runs now
        self.closing = False
        self.ended = 0

    # ── how much ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def room(self, kinds: Collection[Kind]) -> int:
        """How many messages may be received whose tasks are of these kinds."""
        if self._publisher.size >= self._config.unpublished_bytes:
            return 0
        room = min(self._places[kind].room for kind in kinds)
        return min(room, self._config.unpublished - len(self._publisher), self._config.batch)

    @property
    def held(self) -> Collection[Held]:
        return self._held.values()

    def holds(self, held: Held) -> bool:
        """Whether its answer is not with the broker yet."""
        return self._held.get(held.event.id) is held

    @property
    def running(self) -> int:
        return sum(len(place.running) for place in self._places.values())

    def longest(self, most: int) -> list[Attempt]:
        """Of the attempts that run, those that do for longest."""
        begun = [attempt for place in self._places.values() for attempt in list(place.running) if attempt.started_at]
        return nsmallest(most, begun, key=lambda attempt: attempt.started_at)

    @property
    def waiting(self) -> int:
        return sum(len(place.waiting) + len(place.backing_off) for place in self._places.values())

    @property
    def busy(self) -> bool:
        return self.running > 0

    # ── in ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, lane: Lane, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Begin with what was received. Returns what has to be handed back for another worker, after a while."""
        now, monotonic, postponed = self._clock(), time.monotonic(), []
        for delivery in deliveries:
            taken = self._intake.judge(delivery, lane, now)
            if type(taken) is Held:
                taken.renewed_at = monotonic
                self._admit(taken)
            elif isinstance(taken, Refused):
                self._refuse(taken)
            elif isinstance(taken, Postponed):
                log.warning("task %s is not known here; handed back for another worker", taken.task)
                postponed.append(delivery)
            elif isinstance(taken, Poison):
                log.error("poison on topic %s goes to the dead messages: %s", delivery.topic, taken.reason)
                self._publisher.add(self._reporter.dead(delivery, taken.reason), PoisonAnswer(delivery, lane))
        self._fill()
        return postponed

    def _admit(self, held: Held) -> None:
        if self._known(held.event, held.deliveries):
            return
        self._held[held.event.id] = held
        attempt = Attempt(held.event, held.task, held.event.attempt, held)
        if held.event.heartbeatdetails is not None:
            attempt.details = held.event.heartbeatdetails.encode()
        self._wait(held, attempt)
        if self._cancelled and held.event.idempotencykey in self._cancelled:
            self._stop(attempt, "cancelled")

    def _wait(self, held: Held, attempt: Attempt) -> None:
        held.attempt = attempt
        self._places[held.task.kind].waiting.append(attempt)

    def _known(self, event: TaskEvent, deliveries: Sequence[Delivery]) -> bool:
        """Delivered again while it is being worked on: not run twice, acknowledged with the rest."""
        known = self._held.get(event.id)
        if known is not None:
            known.deliveries.extend(deliveries)
        return known is not None

    def _refuse(self, refused: Refused) -> None:
        if not self._known(refused.event, refused.deliveries):
            _log_failure(refused, refused.failure)
            self._publisher.add(self._reporter.failed(refused, refused.failure, final=refused.final), refused)

    def _fill(self) -> None:
        """Hand waiting attempts to the runners, as many as they can run."""
        for place in self._places.values():
            waiting, room = place.waiting, place.runner.size - len(place.running)
            if not place.runner.size:
                self._leave(place)
            if not waiting or room <= 0 or self.closing:
                continue
            batch = []
            while waiting and room > 0:
                attempt = waiting.popleft()
                if not attempt.settled:
                    batch.append(attempt)
                    room -= 1
            self._begin(place, batch)

    def _leave(self, place: Place) -> None:
        """Its runner takes no more work: what waits for it here would wait for ever, and another worker may have it."""
        waiting = [attempt.held for attempt in place.waiting if not attempt.settled]
        place.waiting.clear()
        for held in waiting:
            if held is not None:
                self._let_go(held)
                self._left.append(held)

    def take_left(self, lane: Lane) -> list[Delivery]:
        """What is for other workers to do, to be handed back by the lane that it came from."""
        mine = [held for held in self._left if held.lane is lane]
        self._left = [held for held in self._left if held.lane is not lane]
        return [delivery for held in mine for delivery in held.deliveries]

    def _begin(self, place: Place, attempts: Sequence[Attempt]) -> None:
        now, worker = time.monotonic(), self._config.name
        for attempt in attempts:
            held = attempt.held
            assert held is not None
            event = attempt.event
            attempt.context = make_context(attempt, worker, held.deliveries[-1].count if held.deliveries else 1)
            attempt.on_beat = self.on_beat
            if event.timeoutms is not None:
                self._deadlines.add(now + event.timeoutms / 1_000, attempt, "start_to_close")
            if held.deadline is not None:
                left = max(0, held.deadline - self._clock()) / 1_000_000
                self._deadlines.add(now + left, attempt, "schedule_to_close")
            if event.heartbeatms is not None:
                attempt.beat_at = now
                self._deadlines.add(now + event.heartbeatms / 1_000, attempt, "heartbeat")
            again = attempt.context.delivery_count > 1
            tell = again or event.startby is not None or event.heartbeatms is not None
            self.pulse.begun(attempt, now, tell=tell, doubt=not tell and event.time < self.hears_since)
        place.running.update(attempts)
        place.runner.submit(attempts)
        self.on_begin()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    def returned(self, attempts: Sequence[Attempt]) -> None:
        """The runners hand back what has ended, in whatever way."""
        for attempt in attempts:
            if not attempt.settled:
                try:
                    self._settle(attempt)
                except Exception:  # one attempt must not take the others of its batch with it
                    log.exception("the end of %s could not be told; it will be delivered again", attempt.event.id)
                    self.forget(attempt.held)
        self._fill()
        self.on_room()

    def _settle(self, attempt: Attempt) -> None:
        """Decide what became of it. Whatever the task still does or returns is too late from here on."""
        attempt.settled = True
        attempt.context = None
        held = attempt.held
        assert held is not None
        self._places[held.task.kind].running.discard(attempt)
        self.ended += 1
        stopped = attempt.stopped
        if stopped == "" or (stopped == "shutdown" and attempt.result is not None):
            self._answer(attempt, attempt.failure)
        elif stopped == "shutdown":
            self._hand_back(held)
        elif stopped == "cancelled":
            self._publisher.add(self._reporter.cancelled(attempt), held)
        else:
            self._answer(attempt, _timed_out(attempt, stopped))

    def _answer(self, attempt: Attempt, failure: Failure | None) -> None:
        held = attempt.held
        if failure is None:
            self._publisher.add(self._reporter.completed(attempt), held)
            return
        _log_failure(attempt, failure)
        assert held is not None
        if attempt.beat_queued:  # what it reported last is for the next attempt, so it has to be told before the end
            self._publisher.add(self._reporter.heartbeat(attempt))
        if held.retry is None:
            self._publisher.add(self._reporter.failed(attempt, failure, final=not failure.retryable), held)
        elif not self._retries(held, held.retry, attempt, failure):
            self._publisher.add(self._reporter.failed(attempt, failure, final=True), held)

    def _retries(self, held: Held, policy: RetryPolicy, attempt: Attempt, failure: Failure) -> bool:
        """Repeat it here after the policy's delay, so that later messages of its key stay behind it."""
        if not failure.retryable or attempt.number >= policy.attempts or failure.type in policy.give_up_on:
            return False
        delay = backoff(policy, attempt.number, random.random())
        if held.deadline is not None and self._clock() + delay * 1_000_000 >= held.deadline:
            return False
        self._publisher.add(self._reporter.failed(attempt, failure, final=False))
        again = Attempt(held.event, held.task, attempt.number + 1, held)
        again.details = attempt.details
        held.attempt = again
        place = self._places[held.task.kind]
        place.backing_off.add(held)
        held.backoff = asyncio.get_running_loop().call_later(delay, self._repeat, held, again)
        return True

    def _repeat(self, held: Held, attempt: Attempt) -> None:
        self._end_backoff(held)
        if not attempt.settled:
            self._wait(held, attempt)
            self._fill()
            self.on_room()

    def _end_backoff(self, held: Held) -> None:
        if held.backoff is not None:
            held.backoff.cancel()
            held.backoff = None
            self._places[held.task.kind].backing_off.discard(held)

    def forget(self, answered: object) -> None:
        """Its answer is with the broker."""
        if isinstance(answered, Held):
            self._held.pop(answered.event.id, None)
            answered.attempt = None  # each knows the other: else both stay until garbage is collected

    # ── stop ──────────────────────────────────────────────────────────────────────────────────────────────────────────

    def cancel(self, keys: Sequence[str]) -> None:
        """Nobody waits for these steps any more, whether they are here, on their way here or elsewhere."""
        self._cancelled.update(dict.fromkeys(keys))
        while len(self._cancelled) > REMEMBERED_CANCELS:
            self._cancelled.popitem(last=False)
        wanted = set(keys)
        for held in list(self._held.values()):
            if held.event.idempotencykey in wanted and held.attempt is not None:
                self._end_backoff(held)
                self._stop(held.attempt, "cancelled")
        self._fill()
        self.on_room()

    def tick(self) -> None:
        """Keep the timeouts, publish heartbeats, look after the runners."""
        now = time.monotonic()
        for attempt, limit in self._deadlines.due(now):
            if limit == "abandon":
                self._settle(attempt)
                self._places[attempt.task.kind].runner.abandon(attempt)
            elif (later := self._not_yet(attempt, limit, now)) is not None:
                self._deadlines.add(later, attempt, limit)
            else:
                self._stop(attempt, limit)
        self.pulse.tick(now, (place.running for place in self._places.values()))
        for place in self._places.values():
            if place.running:
                place.runner.tick()
        self._fill()
        self.on_room()

    def _not_yet(self, attempt: Attempt, limit: str, now: float) -> float | None:
        """When to look again. Time counts from when the attempt began, which a busy runner, or a process that is still
        importing, may not have done yet; and for one that reports, from its last heartbeat.
        """
        milliseconds = {"start_to_close": attempt.event.timeoutms, "heartbeat": attempt.event.heartbeatms}.get(limit)
        if milliseconds is None:
            return None
        since = attempt.begun_at if attempt.started_at else now
        if limit == "heartbeat":
            since = max(since, attempt.beat_at)
        due = since + milliseconds / 1_000
        return due if due > now else None

    def _stop(self, attempt: Attempt, why: Stopped) -> None:
        if attempt.finished or attempt.settled or attempt.stopped:
            return  # its end is decided, or on its way here
        attempt.stopped = why
        place = self._places[attempt.task.kind]
        begun = attempt in place.running  # else it is skipped when its turn comes
        if not begun or place.runner.stop_attempt(attempt):
            self._settle(attempt)
        else:
            self._deadlines.add(time.monotonic() + self._config.cancel_grace_seconds, attempt, "abandon")

    # ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def close(self) -> None:
        """Begin nothing more; what has not begun is handed back."""
        self.closing = True
        for place in self._places.values():
            waiting = [attempt.held for attempt in place.waiting if not attempt.settled]
            place.waiting.clear()
            for held in (*waiting, *place.backing_off):
                if held is not None:
                    self._end_backoff(held)
                    self._hand_back(held)

    def stop_all(self) -> None:
        """The grace is over."""
        for place in self._places.values():
            for attempt in list(place.running):
                self._stop(attempt, "shutdown")

    def abandon_all(self) -> None:
        """What still runs goes on without influence."""
        for place in self._places.values():
            for attempt in list(place.running):
                self._settle(attempt)

    def _hand_back(self, held: Held) -> None:
        self._let_go(held)
        self._handed_back.append(held)

    def _let_go(self, held: Held) -> None:
        """Not answered by us."""
        if held.attempt is not None:
            held.attempt.settled = True
        self.forget(held)

    def take_handed_back(self) -> list[Held]:
        """Not done here, to be delivered elsewhere."""
        handed_back, self._handed_back = self._handed_back, []
        return handed_back


def backoff(policy: RetryPolicy, attempt: int, chance: float) -> float:
    """Seconds from the failure of `attempt` to the next; `chance` is from 0 to 1."""
    try:
        delay = min(policy.maximum, policy.initial * policy.factor ** (attempt - 1))
    except OverflowError:
        delay = policy.maximum
    return delay * (0.5 + chance / 2) if policy.jitter else delay


def _timed_out(attempt: Attempt, kind: str) -> Failure:
    event = attempt.event
    limits = {
        "start_to_close": f"{(event.timeoutms or 0) / 1_000:g} s for one attempt (start_to_close)",
        "heartbeat": f"{(event.heartbeatms or 0) / 1_000:g} s without a heartbeat",
        "schedule_to_close": f"{event.deadline} for all attempts (schedule_to_close)",
    }
    return Failure(
        type="edow.errors.TaskTimedOut",
        kind=kind,
        message=f"task {event.subject!r}: attempt {attempt.number} was stopped at its limit of {limits[kind]}",
        retryable=kind != "schedule_to_close",
    )


def _log_failure(attempt: Told, failure: Failure) -> None:
    event = attempt.event
    log.warning(
        "execution %s step %s: attempt %d of task %s failed: %s: %s",
        event.executionid,
        event.step,
        attempt.number,
        event.subject,
        failure.type,
        failure.message,
        extra=ids_of(attempt),
    )
    if failure.stack:
        log.debug("%s", failure.stack, extra=ids_of(attempt))


def ids_of(attempt: Told) -> dict[str, object]:
    """For log lines about it."""
    event = attempt.event
    return {
        "execution": event.executionid,
        "correlation": event.correlationid,
        "traceparent": traceparent_of(attempt),
        "step": event.step,
        "attempt": attempt.number,
    }


def _nothing() -> None:
    pass
