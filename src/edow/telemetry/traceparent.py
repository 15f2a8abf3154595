"""W3C trace context, https://www.w3.org/TR/trace-context/, as far as it travels with executions and messages."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NamedTuple

_FORM = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")  # later versions may say more
SAMPLED = frozenset("13579bdf")  # the last of the flags' digits, with its lowest bit set


class Context(NamedTuple):
    """Where a span stands. Ids are numbers, as OpenTelemetry has them."""

    trace: int
    span: int
    flags: int


def is_sampled(traceparent: str) -> bool:
    """Whether spans are wanted. Quick: it is asked of every execution."""
    return traceparent[-1:] in SAMPLED


def parse(traceparent: str) -> Context | None:
    """None for what is no valid traceparent."""
    found = _FORM.fullmatch(traceparent)
    if found is None:
        return None
    trace, span, flags = found.groups()
    context = Context(int(trace, 16), int(span, 16), int(flags, 16))
    return context if context.trace and context.span else None


def text_of(context: Context) -> str:
    return f"00-{context.trace:032x}-{context.span:016x}-{context.flags:02x}"


def span_id(*about: object) -> int:
    """Of the span that is about this: the same in every process, and never 0."""
    text = "\0".join(map(str, about))
    return int.from_bytes(blake2b(text.encode(), digest_size=8, person=b"edow-span").digest(), "big") or 1


def execution_span(execution: str, run: int) -> int:
    return span_id(execution, run)


def step_span(execution: str, run: int, step: str) -> int:
    return span_id(execution, run, step)


def send_span(key: str, attempt: int) -> int:
    """`key`: the idempotency key, execution/run/step."""
    return span_id("send", key, attempt)


def attempt_span(key: str, attempt: int) -> int:
    return span_id("process", key, attempt)


def within(traceparent: str, span: int) -> str:
    """The same trace, for what happens inside of that span; unsampled ones stay as they are."""
    context = parse(traceparent) if is_sampled(traceparent) else None
    return traceparent if context is None else text_of(context._replace(span=span))
