"""What an orchestrator adds to a trace: what it sent, and, when an execution has ended, its whole course.

Off the path of deciding: a batch only notes which of its executions are traced. What a crash comes in between of is
missing in the trace, and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

from edow.engine.decision import Dispatch
from edow.errors import Unavailable
from edow.model import topics
from edow.model.execution import Execution
from edow.store.contract import Store
from edow.telemetry.past import segments_of, spans_of
from edow.telemetry.spans import Span
from edow.telemetry.traceparent import attempt_span, parse, send_span, step_span

log = logging.getLogger("edow.orchestrator")

MOST_WAITING = 1_000  # ended executions whose histories are to be read; more than that are left out


class Traced(NamedTuple):
    """One execution's part of a batch. `ended`: its row, if that was its end."""

    row: Execution
    sent: Sequence[Dispatch]
    ended: bool


class Traces:
    """`emit` gets the spans."""

    def __init__(self, store: Store, emit: Callable[[Sequence[Span]], None], system: str) -> None:
        self.left_out = 0
        self._store = store
        self._emit = emit
        self._system = system
        self._ended: asyncio.Queue[Execution] = asyncio.Queue(MOST_WAITING)

    def committed(self, traced: Sequence[Traced], decided: int, published: int) -> None:
        """A batch was decided and published at these times."""
        for each in traced:
            if each.sent:
                self._emit(self._sends(each, decided, published))
            if each.ended:
                self._take(each.row)

    async def run(self) -> None:
        """For ever."""
        while True:
            row = await self._ended.get()
            try:
                await self._tell(row)
            except Unavailable as problem:
                log.debug("the trace of execution %s lacks its course: %s", row.id, problem)
            except Exception:  # one execution's trouble is not another's
                log.exception("the trace of execution %s lacks its course", row.id)

    async def _tell(self, row: Execution) -> None:
        segments = await self._store.history_get(row.id, row.run)
        self._emit(spans_of(row, list(segments_of(segments))))

    def _take(self, row: Execution) -> None:
        try:
            self._ended.put_nowait(row)
        except asyncio.QueueFull:
            self.left_out += 1

    def _sends(self, each: Traced, decided: int, published: int) -> list[Span]:
        row, caller = each.row, parse(each.row.trace)
        if caller is None:
            return []
        spans = []
        for dispatch in each.sent:
            key, topic = f"{row.id}/{row.run}/{dispatch.step}", topics.task_topic(dispatch.policy.topic)
            spans.append(
                Span(
                    name=f"send {topic}",
                    id=send_span(key, dispatch.attempt),
                    parent=caller._replace(span=step_span(row.id, row.run, dispatch.step)),
                    start=decided,
                    end=published,
                    kind="producer",
                    attributes={
                        "messaging.system": self._system,
                        "messaging.destination.name": topic,
                        "messaging.operation.name": "send",
                        "messaging.operation.type": "send",
                        "messaging.message.id": f"{key}/{dispatch.attempt}",
                        "messaging.message.conversation_id": row.correlation,
                        "edow.execution.id": row.id,
                        "edow.step": dispatch.step,
                        "edow.task": dispatch.task,
                        "edow.attempt": dispatch.attempt,
                    },
                    links=(attempt_span(key, dispatch.attempt - 1),) if dispatch.attempt > 1 else (),
                )
            )
        return spans
