"""How often a task is tried, as its author says it. Checked where it is written and turned into the model's policy.

Knows nothing of when a retry happens: that is the engine's.
"""

from __future__ import annotations

from dataclasses import dataclass

from edow.errors import InvalidInput
from edow.model.policy import RetryPolicy
from edow.workflow.duration import Duration, seconds
from edow.workflow.failures import Classes, type_name

GiveUpOn = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Retry:
    """`attempts` counts the first one too and has to be bounded: for "as long as it takes" give a large number.

    The delay starts at `initial`, grows by `factor` up to `maximum`, and with jitter is spread over its upper half.
    An exception in `give_up_on` (or a subclass) is the task's answer: it is not retried.
    """

    attempts: int = 3
    initial: Duration = "200ms"
    factor: float = 2
    maximum: Duration = "60s"
    jitter: bool = True
    give_up_on: GiveUpOn = ()

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise InvalidInput(
                f"Retry(attempts={self.attempts!r}): give a number from 1 (no retry) on; "
                "for a task that should be tried as long as it takes, a large one"
            )
        if not 1 <= self.factor <= 1000:
            raise InvalidInput(f"Retry(factor={self.factor!r}): give a number from 1 to 1000")
        self.policy()

    @property
    def classes(self) -> Classes:
        return self.give_up_on if isinstance(self.give_up_on, tuple) else (self.give_up_on,)

    def policy(self) -> RetryPolicy:
        """In the model's terms. Raises InvalidInput."""
        return RetryPolicy(
            attempts=self.attempts,
            initial=seconds(self.initial, "Retry(initial)"),
            factor=float(self.factor),
            maximum=seconds(self.maximum, "Retry(maximum)"),
            jitter=self.jitter,
            give_up_on=tuple(type_name(exception_class(kind, "give_up_on")) for kind in self.classes),
        )


def exception_class(kind: object, what: str) -> type[BaseException]:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return kind
    raise InvalidInput(f"{what} holds {kind!r}, which is no exception class")
