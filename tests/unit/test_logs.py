"""Log lines: for people and for programs, with the ids of what they are about."""

from __future__ import annotations

import json
import logging
from typing import Any

from edow.cli.logs import Json, Plain
from edow.workflow.context import TaskContext, current_context

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def record(message: str, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("shop", logging.WARNING, __file__, 1, message, (), None)
    vars(made).update(extra)
    return made


def parsed(made: logging.LogRecord) -> dict[str, Any]:
    line = Json().format(made)
    assert "\n" not in line
    loaded: dict[str, Any] = json.loads(line)
    return loaded


def test_a_line_about_an_execution_names_it() -> None:
    """And its trace, as JSON."""
    line = parsed(record("two\nlines", execution="e", correlation="c", step="s", attempt=2, traceparent=TRACE))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "shop", "two\nlines")
    assert (line["execution_id"], line["correlation_id"], line["step"], line["attempt"]) == ("e", "c", "s", 2)
    assert (line["trace_id"], line["span_id"]) == (TRACE[3:35], TRACE[36:52])
    assert line["time"].endswith("Z")


def test_a_line_about_nothing_in_particular_has_no_ids() -> None:
    """Only what every line has."""
    assert parsed(record("x")).keys() == {"time", "level", "logger", "message"}
    assert Plain().format(record("x")).endswith("WARNING shop: x")


def test_what_a_task_logs_carries_its_ids() -> None:
    """Though its author did nothing for it; ids that the message names already are not said twice."""
    context = TaskContext(
        execution="order-7", run=1, step="charge", task="charge", attempt=1, idempotency_key="order-7/1/charge",
        cancelled=None, send_heartbeat=lambda _: None, correlation="cart-9", traceparent=TRACE,
    )  # fmt: skip  # type: ignore[arg-type]
    token = current_context.set(context)
    try:
        line = parsed(record("declined"))
        plain = Plain().format(record("order-7 declined"))
    finally:
        current_context.reset(token)
    assert (line["execution_id"], line["correlation_id"], line["step"]) == ("order-7", "cart-9", "charge")
    assert line["trace_id"] == TRACE[3:35]
    assert plain.endswith("order-7 declined [correlation_id=cart-9]")


def test_an_exception_is_part_of_its_line() -> None:
    """With its stack."""
    try:
        raise LookupError("gone")
    except LookupError as problem:
        made = record("x")
        made.exc_info = (type(problem), problem, problem.__traceback__)
    assert "LookupError: gone" in parsed(made)["exception"]
