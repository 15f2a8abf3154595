"""One attempt of a task that has ended, as those see it who measure."""

from __future__ import annotations

from typing import Literal

import msgspec

Became = Literal["completed", "retried", "failed"]


class Attempted(msgspec.Struct, frozen=True, gc=False):
    """`started_at` by the worker's clock, 0 if no worker said so."""

    task: str
    became: Became  # failed: and no other attempt follows
    published_at: int
    started_at: int
    duration: int
    payload: int  # bytes of arguments and result
