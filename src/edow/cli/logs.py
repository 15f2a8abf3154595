"""What the loops and tasks have to tell, on stderr: for people, or as a JSON object a line (--log-json).

Whatever is said about an execution, or inside of a task or workflow, carries the ids of both. What a workflow says is
told when it is said first, not in each replay.
"""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime

import msgspec

from edow.telemetry.traceparent import parse
from edow.workflow.context import current_context
from edow.workflow.runtime import current

JSON = "EDOW_LOG_JSON"


class StderrHandler(logging.Handler):
    """Writes to whatever stderr is at that moment: a progress bar takes it over while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line, or none at all: logging must never be what fails."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:  # as every handler of the standard library does
            self.handleError(record)


def about(record: logging.LogRecord) -> dict[str, object]:
    """The ids of what a line is about: as whoever wrote it says, or of the task or workflow in which it was written."""
    ids: dict[str, object] = {}
    context, runtime = current_context.get(), current.get()
    if context is not None:
        ids |= {
            "execution_id": context.execution,
            "correlation_id": context.correlation,
            "step": context.step,
            "attempt": context.attempt,
            "traceparent": context.traceparent,
        }
    elif runtime is not None:
        ids |= dict(zip(("execution_id", "correlation_id", "traceparent"), runtime.ids(), strict=True))
    said = {
        "execution_id": getattr(record, "execution", None),
        "correlation_id": getattr(record, "correlation", None),
        "step": getattr(record, "step", None),
        "attempt": getattr(record, "attempt", None),
        "traceparent": getattr(record, "traceparent", None),
    }
    ids |= {name: value for name, value in said.items() if value is not None}
    found = parse(str(ids.pop("traceparent", "")))
    if found is not None:
        ids |= {"trace_id": f"{found.trace:032x}", "span_id": f"{found.span:016x}"}
    return {name: value for name, value in ids.items() if value != ""}


def is_new(record: logging.LogRecord) -> bool:
    """Not what a workflow says once more because its code runs again over its history."""
    runtime = current.get()
    return runtime is None or not runtime.repeats()


class Plain(logging.Formatter):
    """A line for people; ids that the message does not name itself follow it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the standard library's
        text = super().formatMessage(record)
        ids = about(record)
        shown = [f"{name}={ids[name]}" for name in ("execution_id", "correlation_id") if name in ids]
        missing = [each for each in shown if each.partition("=")[2] not in record.message]
        return f"{text} [{' '.join(missing)}]" if missing else text


class Json(logging.Formatter):
    """One object: time, level, logger, message, and the ids."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **about(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=repr).decode()


def configure(*, quiet: bool = False) -> None:
    """Warnings only when `quiet`; a second call changes nothing."""
    handler = StderrHandler()
    handler.addFilter(is_new)
    handler.setFormatter(Json() if os.environ.get(JSON, "") not in ("", "0") else Plain())
    logging.basicConfig(level=logging.WARNING if quiet else logging.INFO, handlers=[handler])
