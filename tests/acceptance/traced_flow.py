"""What the processes of `test_tracing` run: tasks that trace and log by themselves, too."""

from __future__ import annotations

import logging

from opentelemetry import trace

import edow

log = logging.getLogger("shop")


@edow.task
async def ask(question: str) -> str:
    with trace.get_tracer("shop").start_as_current_span("ask the bank"):
        log.warning("asking %s", question)
        return question.upper()


@edow.task
def compute(number: int) -> int:
    with trace.get_tracer("shop").start_as_current_span("compute it"):
        return number + 1


@edow.workflow
async def traced(question: str) -> str:
    log.warning("wondering about %s", question)
    return f"{await ask(question)} {await compute(1)}"
