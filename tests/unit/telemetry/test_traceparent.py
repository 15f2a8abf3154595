"""Trace context: read, written, and never trusted to be well-formed."""

from __future__ import annotations

import pytest

from edow.telemetry.traceparent import Context, attempt_span, is_sampled, parse, span_id, text_of, within

SAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # the specification's example
UNSAMPLED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"


def test_it_is_read_and_written() -> None:
    """As the specification's example has it."""
    context = parse(SAMPLED)
    assert context == Context(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 1)
    assert context
    assert text_of(context) == SAMPLED


@pytest.mark.parametrize(
    "text",
    [
        "",
        "00",
        "00-x-y-z",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01",
        f"00-{'a' * 33}-b7ad6b7169203331-01",
        f"00-{'a' * 32}-{'b' * 17}-01",
        f"00-{'a' * 32}-{'b' * 16}-101",
        f"00-{'g' * 32}-{'b' * 16}-01",
    ],
)
def test_what_is_none_is_none(text: str) -> None:
    """Whoever wrote it; an id of zeros is none."""
    assert parse(text) is None


@pytest.mark.parametrize(("text", "sampled"), [(SAMPLED, True), (UNSAMPLED, False), ("", False), ("00-a-b-03", True)])
def test_sampling_is_the_lowest_flag(text: str, sampled: bool) -> None:
    """Whatever the other flags say."""
    assert is_sampled(text) is sampled


def test_spans_inside_keep_trace_and_flags() -> None:
    """An unsampled context is handed on as it is."""
    assert within(SAMPLED, 0xAB) == "00-0af7651916cd43dd8448eb211c80319c-00000000000000ab-01"
    assert within(UNSAMPLED, 0xAB) == UNSAMPLED
    assert within("", 0xAB) == ""


def test_ids_are_the_same_everywhere_and_different_for_different_things() -> None:
    """Also where the parts of two of them run together alike."""
    assert span_id("a", 1) == span_id("a", 1)
    assert len({span_id("a", 1), span_id("a1"), span_id("a", "1", ""), attempt_span("a", 1), attempt_span("a", 2)}) == 5
    assert 0 < span_id("x") < 1 << 64
