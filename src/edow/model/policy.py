"""How a step is retried, how long it may take and what becomes of it when its attempts end."""

from __future__ import annotations

from typing import Literal

import msgspec

Exhausted = Literal["raise", "park"]


class RetryPolicy(msgspec.Struct, frozen=True):
    """Delays in seconds. Attempt n+1 starts `initial * factor**(n-1)` after the failure of attempt n, at most
    `maximum`.

    With jitter the delay is spread evenly over 50 to 100 % of itself. `give_up_on` holds qualified exception names.
    It travels with all its fields: a worker in another language need not know our defaults.
    """

    attempts: int = 3
    initial: float = 0.2
    factor: float = 2.0
    maximum: float = 60.0
    jitter: bool = True
    give_up_on: tuple[str, ...] = ()


class Timeouts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The four timeouts of a step, in seconds; None is no limit."""

    schedule_to_start: float | None = None
    start_to_close: float | None = None  # each attempt
    schedule_to_close: float | None = None  # all attempts together
    heartbeat: float | None = None


class StepPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything the orchestrator needs to know about a task to look after a step."""

    retry: RetryPolicy = RetryPolicy()
    timeouts: Timeouts = Timeouts()
    exhausted: Exhausted = "raise"
    topic: str = "default"  # of the task, without the prefix: see `edow.model.topics`
