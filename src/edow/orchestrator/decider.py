"""The hot executions and the decisions about them. Everything here runs on the engine thread, one batch at a time.

The I/O side may ask which executions are in memory; it never touches a machine.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from edow.engine.decision import Decision, EngineInput, Tick
from edow.engine.limits import Limits
from edow.engine.machine import Machine
from edow.kpi.incident import Out
from edow.model import history, inbox, topics
from edow.model.execution import ENDED, Execution
from edow.orchestrator.draft import HORIZON_US, Draft, Farewell, Hot, blind
from edow.store.contract import Stored
from edow.workflow.registry import Registry

log = logging.getLogger("edow.orchestrator")

TICK = Tick()
REPLACED = inbox.Terminate(reason="replaced")

_events = msgspec.json.Decoder(list[msgspec.Raw]).decode

Work = dict[str, list[EngineInput]]
"""Inputs by execution, in the order in which they arrived."""


class Room(NamedTuple):
    """How many executions may be in memory, and how many bytes their histories may have."""

    executions: int
    bytes: int


class Decider:
    """Keeps machines in memory and runs them."""

    def __init__(self, registry: Registry, limits: Limits, shards: int, horizon_us: int = HORIZON_US) -> None:
        self._registry = registry
        self._limits = limits
        self._shards = shards
        self._horizon_us = horizon_us
        self._hot: OrderedDict[str, Hot] = OrderedDict()
        self._bytes = 0  # of their histories
        self._outdated: set[str] = set()  # must be loaded anew: another run follows, or the engine has failed
        self.current = ""  # the execution being decided, for whoever wonders what takes so long

    def cold(self, executions: Iterable[str]) -> list[str]:
        """Those that are not in memory."""
        hot = self._hot
        return [execution for execution in executions if execution not in hot]

    def exceeds(self, room: Room) -> bool:
        """Whether more is in memory."""
        return len(self._hot) > room.executions or self._bytes > room.bytes

    def decide(self, work: Work, stored: Sequence[Stored], now: int, farewells: Sequence[Farewell]) -> Draft:
        """Apply each execution's inputs; executions not in memory are rebuilt from `stored` first."""
        draft = Draft(now, self._shards, self._horizon_us)
        draft.abandon(farewells)
        for item in stored:
            self._admit(item, draft)
        hot = self._hot
        known = {item.execution.id for item in stored}
        for execution, inputs in work.items():
            entry = hot.get(execution)
            if entry is None or entry.ended:
                for each in inputs:  # ended, purged or never there: its messages have nothing left to say
                    draft.call_off(each, execution)
                    draft.unheard(each, execution, exists=entry is not None or execution in known)
                continue
            self.current = execution
            hot.move_to_end(execution)
            self._apply(entry, inputs, draft)
        self.current = ""
        draft.finish()
        return draft

    def out(self, now: int) -> Out:
        """Attempts of what is in memory that nobody has answered."""
        counts: Counter[str] = Counter()
        oldest: dict[str, int] = {}
        for entry in self._hot.values():
            if not entry.ended:
                for name, since in entry.machine.out(now):
                    counts[name] += 1
                    if since is not None:
                        oldest[name] = min(since, oldest.get(name, since))
        return Out(*({topics.task_topic(name): each for name, each in found.items()} for found in (counts, oldest)))

    def must_refresh(self, work: Work, renewed: Iterable[str]) -> bool:
        """Whether `refresh` would drop anything. `renewed`: executions told to start or to resume."""
        if not self._hot.keys().isdisjoint(renewed):
            return True
        return bool(self._outdated) and not self._outdated.isdisjoint(work)

    def refresh(self, work: Work, renewed: Iterable[str], now: int) -> list[Farewell]:
        """Drop machines that another run has followed or that shall try again with today's code; they are loaded anew.
        Answers what is left of the runs that were replaced.
        """
        farewells: list[Farewell] = []
        for execution in {*renewed, *self._outdated.intersection(work)}:
            entry = self._hot.get(execution)
            if entry is None or not (entry.ended or any(_renews(each, entry.row.run) for each in work[execution])):
                continue
            if not entry.ended and any(_replaces(each, entry.row.run) for each in work[execution]):
                farewells.append(Farewell(entry.row, _last_words(entry.machine, entry.row, now)))
            self._drop(execution)
        return farewells

    def farewell(self, execution: str, run: int, segments: Sequence[bytes], now: int) -> Farewell:
        """The same for a run that is not in memory; what it has left follows from its history alone."""
        row = Execution(id=execution, workflow="", shard=0, run=run)
        machine = Machine(None, row, self._limits)
        try:
            events = [history.decoder.decode(segment) for segment in segments]
            row.parent = _started(events).parent
            machine.rebuild(events)
        except BaseException:
            log.exception("execution %s: who still works for its run %s cannot be told to stop", execution, run)
            return Farewell(row, Decision())
        return Farewell(row, _last_words(machine, row, now))

    def settle(self, ended: Iterable[str], room: Room, pinned: Collection[str]) -> None:
        """What has ended is committed: forget it. Forget the longest unused for which there is no room too, but for
        those pinned: what is decided about them is not committed yet.
        """
        for execution in ended:
            entry = self._hot.get(execution)
            if entry is not None and entry.ended and execution not in pinned:
                self._drop(execution)
        if self.exceeds(room):
            for execution in list(self._beyond(room, pinned)):
                self._drop(execution)

    def forget(self) -> None:
        """Drop everything in memory: it may be ahead of the store."""
        for entry in self._hot.values():
            entry.machine.close()
        self._hot.clear()
        self._bytes = 0
        self._outdated.clear()

    def _beyond(self, room: Room, pinned: Collection[str]) -> Iterator[str]:
        """The longest unused, as many as there are too many or too large."""
        executions, size = len(self._hot), self._bytes
        for execution, entry in self._hot.items():
            if executions <= room.executions and size <= room.bytes:
                return
            if execution not in pinned:
                executions, size = executions - 1, size - entry.size
                yield execution

    def _keep(self, entry: Hot) -> None:
        self._hot[entry.row.id] = entry
        self._bytes += entry.size

    def _drop(self, execution: str) -> None:
        entry = self._hot.pop(execution)
        self._bytes -= entry.size
        entry.machine.close()
        self._outdated.discard(execution)

    def _admit(self, item: Stored, draft: Draft) -> None:
        row = item.execution
        if row.status in ENDED:
            return
        try:
            segments = [history.decoder.decode(segment) for segment in item.segments]
            row.notify = _started(segments).notify
            machine = Machine(self._registry.workflows.get(row.workflow), row, self._limits)
            machine.rebuild(segments, item.heartbeats)
        except BaseException as problem:
            log.exception("execution %s cannot be rebuilt from its history", row.id, extra=ids_of(row))
            self._admit_blindly(item, problem, draft)
            return
        self._keep(Hot(machine, row, sum(map(len, segments)), item.size))

    def _admit_blindly(self, item: Stored, problem: BaseException, draft: Draft) -> None:
        row = item.execution
        try:
            events = sum(len(_events(segment)) for segment in item.segments)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            log.error("execution %s: its history is no JSON; what comes for it is lost", row.id, extra=ids_of(row))
            draft.park(row, problem)
        else:
            self._keep(blind(row, problem, events))

    def _apply(self, entry: Hot, inputs: list[EngineInput], draft: Draft) -> None:
        run = entry.row.run
        fitting = [each for each in inputs if getattr(each, "run", run) == run]  # what names no run is for any
        if len(fitting) < len(inputs):
            draft.duplicates += len(inputs) - len(fitting)
            for each in inputs:
                if getattr(each, "run", run) != run:  # results and answers that belong to an earlier run are too late
                    draft.call_off(each, entry.row.id)
        if not fitting:
            return
        first = fitting[0]
        if type(first) is inbox.Start and not first.continued:
            draft.started.append(entry.row.workflow)
        mark, length, size = draft.mark(), entry.length, entry.size
        try:
            draft.absorb(entry, entry.machine.apply(fitting, draft.now))
        except BaseException as problem:  # one execution's trouble is not another's, nor the thread's
            log.exception("execution %s: the engine failed", entry.row.id, extra=ids_of(entry.row))
            draft.revert(mark)
            entry = self._stand_still(entry, length, fitting, problem, draft)
        self._bytes += entry.size - size
        if entry.ended and entry.row.status not in ENDED:
            self._outdated.add(entry.row.id)
        elif TICK in fitting:
            for dispatch in entry.machine.pending(draft.now):
                draft.suspect(entry.row, dispatch)

    def _stand_still(
        self, failed: Hot, length: int, inputs: list[EngineInput], problem: BaseException, draft: Draft
    ) -> Hot:
        """What has come is in history, and decided about when the execution is loaded anew."""
        failed.machine.close()
        entry = self._hot[failed.row.id] = blind(failed.row, problem, length)
        ends = [each for each in inputs if isinstance(each, inbox.Terminate)] if len(inputs) > 1 else []
        for each in ends:  # not blindly: there may be workers and children to be told
            draft.again(entry.row, each)
        draft.absorb(entry, entry.machine.apply([each for each in inputs if each not in ends], draft.now))
        entry.ended = True
        return entry


def _last_words(machine: Machine, row: Execution, now: int) -> Decision:
    """Of a run that was replaced."""
    try:
        return machine.apply([REPLACED], now)
    except BaseException:
        log.exception("execution %s: who still works for its run %s cannot be told to stop", row.id, row.run)
        return Decision()


def _replaces(item: EngineInput, run: int) -> bool:
    return isinstance(item, inbox.Start) and item.run > run and not item.continued


def _started(segments: Sequence[Sequence[history.AnyEvent]]) -> history.Started:
    """How it began."""
    first = segments[0][0] if segments else None
    return first if isinstance(first, history.Started) else history.Started(at=0, workflow="", input=msgspec.Raw(b"{}"))


def _renews(item: EngineInput, run: int) -> bool:
    return isinstance(item, inbox.Resume) or (isinstance(item, inbox.Start) and item.run > run)


def ids_of(row: Execution) -> dict[str, str]:
    """For log lines about it."""
    return {"execution": row.id, "correlation": row.correlation, "traceparent": row.trace}
