"""What a start stores, whoever starts: a client, a schedule, a hook.

The row carries a wake-up a few seconds from now, so that an orchestrator looks at the execution even
if the Start command were lost.
"""

from __future__ import annotations

from edow.model import history
from edow.model.execution import Execution, shard_of
from edow.store.contract import IfExists, StartRequest

SAFETY_NET = 10_000_000  # microseconds


def start_of(row: Execution, place: tuple[int, int], if_exists: IfExists = "attach") -> StartRequest:
    """`row` says who: id, workflow, input, and what else is known; the rest is filled in. `place`: how many shards
    there are, and what time it is.
    """
    shards, now = place
    row.shard = shard_of(row.id, shards)
    row.correlation = row.correlation or row.id
    row.started_at = now
    row.wake_at = now + SAFETY_NET
    row.events = 1
    begin = history.Started(at=now, workflow=row.workflow, input=row.input, notify=row.notify)
    segment = history.encoder.encode([begin])
    return StartRequest(row, segment, if_exists)
