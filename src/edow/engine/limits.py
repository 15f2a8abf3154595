"""How large an execution may become. Told at 50 and 80 % of a limit, refused at the limit, with the remedy.

Values only; the orchestrator chooses them.
"""

from __future__ import annotations

import msgspec

from edow.model.failure import Failure

TOLD_AT = (50, 80)  # percent


class Limits(msgspec.Struct, frozen=True):
    """`history_events`: of one run."""

    history_events: int = 200_000

    def notices(self, before: int, after: int) -> list[str]:
        """One for each mark that was passed, so that each is told once."""
        if after * 100 < self.history_events * TOLD_AT[0]:
            return []
        marks = [(percent, self.history_events * percent // 100) for percent in TOLD_AT]
        return [
            f"its history has {after:,} events, {percent} % of the limit of {self.history_events:,}: "
            "edow.continue_as_new(...) begins a new one"
            for percent, mark in marks
            if before < mark <= after
        ]

    def failure(self, events: int) -> Failure | None:
        """Why the execution has to be parked."""
        if events < self.history_events:
            return None
        return Failure(
            type="edow.HistoryLimit",
            message=f"its history has {events:,} events, over the limit of {self.history_events:,}: raise the "
            "limit and resume it, and let its code call edow.continue_as_new(...) now and then",
            retryable=False,
        )


DEFAULTS = Limits()
