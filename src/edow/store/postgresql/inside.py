"""Storing a start inside somebody else's transaction on the same database: a statement to be executed there.

It has scalar parameters only, each used once and in order, so that every client library can execute it.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

import msgspec

from edow.postgresql.calls import in_schema
from edow.postgresql.hub import prefix_of
from edow.store.acceptance import Known, refusal, start_command
from edow.store.contract import Answer, StartRequest

START = (
    "SELECT edow.start_in(CAST($1 AS text), CAST($2 AS bigint), CAST($3 AS text), CAST($4 AS text), CAST($5 AS text), "
    "CAST($6 AS text), CAST($7 AS text), CAST($8 AS text), CAST($9 AS bigint), CAST($10 AS bigint), CAST($11 AS text))"
)

_known = msgspec.json.Decoder(list[Known]).decode


class Statement(NamedTuple):
    """A query with `$1`, `$2`, ... and their values."""

    text: str
    values: list[object]


def start_inside(request: StartRequest, schema: str) -> Statement:
    """What stores the start in the store's `schema`; the shard is found there. Answers one value."""
    row = request.execution
    values: list[object] = [
        row.id,
        zlib.crc32(row.id.encode()),
        row.workflow,
        bytes(row.input).decode(),
        request.segment.decode(),
        start_command(row.run).decode(),
        row.correlation,
        row.trace,
        row.started_at,
        row.wake_at,
        f"{prefix_of(schema)}inbox",
    ]
    return Statement(in_schema(START, schema), values)


def answer_inside(request: StartRequest, value: object) -> Answer:
    """What the statement's answer means."""
    if not isinstance(value, str):
        return Answer("accepted", request.execution.run, request.execution.status)
    return refusal(request, _known(value)[0])
