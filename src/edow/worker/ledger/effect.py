"""What a block of `edow.once` is given, and what all of its kinds share: the key, the attempt, and what they check."""

from __future__ import annotations

import time
from typing import Any, TypeVar

from edow.errors import WrongState
from edow.workflow import codec
from edow.workflow.context import TaskContext, current_context

TABLE = "edow_effects"

T = TypeVar("T")


class Effect:
    """True when the effect has to be applied now; False when an earlier attempt has applied it. `value` is what was
    saved, as JSON.
    """

    def __init__(self, key: str, first: bool, saved: bytes | None) -> None:
        self.key = key
        self.first = first
        self.value = saved

    def __bool__(self) -> bool:
        return self.first

    def save(self, value: object) -> None:
        """Keep a value with the effect, so that a later attempt can return the same."""
        if not self.first:
            raise WrongState(f"effect {self.key!r} was applied before; its value is in `saved`, it cannot be replaced")
        self.value = bytes(codec.encode(value, f"the value saved with effect {self.key!r}"))

    @property
    def saved(self) -> object:
        """What was saved, as plain JSON values; None when nothing."""
        return self.saved_as(Any)

    def saved_as(self, kind: type[T] | Any) -> T | Any:
        """What was saved, typed."""
        if self.value is None:
            return None
        return codec.decode(self.value, kind, f"the value saved with effect {self.key!r}")


class Claim:
    """The right to apply an effect, as it is asked for: under which key, and for which attempt."""

    def __init__(self, name: str, key: str | None) -> None:
        self.context = current_context.get()
        self.key = _full_key(self.context, name, key)

    def values(self) -> tuple[str, int, int]:
        """Key, time and attempt, as the table has them."""
        return self.key, time.time_ns() // 1_000, self.context.attempt if self.context is not None else 0

    def check_alive(self, what: str) -> None:
        """Raises WrongState when nobody waits for this attempt any more; `what` becomes of its effect."""
        context = self.context
        if context is not None and context.cancelled.is_set():
            raise WrongState(
                f"attempt {context.attempt} of step {context.step} of execution {context.execution} was given up "
                f"(timed out, cancelled or handed back); its effect {what}"
            )


def _full_key(context: TaskContext | None, name: str, key: str | None) -> str:
    if key is None:
        if context is None:
            raise WrongState("edow.once() was called outside a task, where there is no idempotency key: give key=")
        key = context.idempotency_key
    return f"{key}:{name}" if name else key
