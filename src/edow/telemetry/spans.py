"""What a span tells, before it is OpenTelemetry's. Times in microseconds since the epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from edow.telemetry.traceparent import Context

Kind = Literal["internal", "client", "producer", "consumer"]
Value = str | int | float | bool


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """`parent`: where it stands; `links`: other spans of the same trace. `error` "": it went well."""

    name: str
    id: int
    parent: Context
    start: int
    end: int
    kind: Kind = "internal"
    attributes: Mapping[str, Value] = {}
    links: tuple[int, ...] = ()
    events: tuple[tuple[str, int, Mapping[str, Value]], ...] = ()
    error: str = ""
