"""One execution as its caller sees it: wait for its result, send it signals, stop it, look at it.

A handle is a name and a way to read the result; it holds nothing open, and any number may exist for one execution.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from edow.client.link import Link
from edow.client.outcome import Continued, Outcome, failure_of, outcome_of_row, outcome_of_run
from edow.errors import Failed, WrongState
from edow.model import inbox
from edow.model.execution import ENDED, Execution, Status
from edow.store.contract import DeadLetterFilter
from edow.workflow import codec

R = TypeVar("R")

ANY_RUN = sys.maxsize


class Handle(Generic[R]):
    """`run` is the run that was started or attached to; None: whichever is current when asked."""

    def __init__(self, link: Link, id: str, run: int | None, decode: Callable[[bytes], R]) -> None:
        self.id = id
        self.run = run
        self._link = link
        self._decode = decode

    def __repr__(self) -> str:
        return f"<Handle {self.id!r}>"

    async def result(self, timeout: float | None = None) -> R:
        """The workflow's result once it has ended; follows continue-as-new.

        Raises WorkflowFailed, WorkflowCancelled, WorkflowTerminated, NotFound, and TimeoutError after
        `timeout` seconds (the execution goes on).
        """
        outcome = await self._in_time(timeout)
        if isinstance(outcome, Failed):
            raise outcome
        return self._decode(bytes(outcome))

    async def ended(self, seconds: float) -> Execution:
        """The execution's row as soon as it has ended, or as it is after so many seconds. Raises NotFound."""
        try:
            async with asyncio.timeout(seconds):
                row = await self._link.waiter.ended(self.id, ANY_RUN)
        except TimeoutError:
            return await self.describe()
        if row is None:
            raise await self._link.missing(self.id)
        return row

    async def signal(self, name: str, value: object = None) -> None:
        """Send a signal; it is kept until the workflow waits for it. Raises WrongState after the end."""
        body = codec.encode(value, f"the value of signal {name!r}")
        await self._link.command(self.id, inbox.Signal(name=name, payload=body))

    async def cancel(self, reason: str = "") -> None:
        """Ask the workflow to stop; its cleanup and compensations run."""
        await self._link.command(self.id, inbox.Cancel(reason=reason))

    async def terminate(self, reason: str = "") -> None:
        """End the execution as it stands: no cleanup, no compensation."""
        await self._link.command(self.id, inbox.Terminate(reason=reason))

    async def pause(self, reason: str = "") -> None:
        """Let nothing happen until it is resumed: what comes is kept, nothing goes out, and no timer fires."""
        await self._link.command(self.id, inbox.Pause(reason=reason))

    async def resume(self) -> None:
        """Go on with a paused execution, or try a parked one again with today's code. Raises WrongState if it waits for
        no person.
        """
        row = await self.describe()
        if row.status is not Status.PARKED:
            raise WrongState(f"execution {self.id!r} is {row.status}; only a parked or paused one can be resumed")
        failure = failure_of(row)
        if failure is None or failure.step:
            await self._refuse_if_dead_letter()
        await self._link.command(self.id, inbox.Resume())

    async def describe(self) -> Execution:
        """The execution's row as it is now."""
        return await self._link.row(self.id)

    async def _in_time(self, timeout: float | None) -> msgspec.Raw | Failed:
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._outcome()
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise TimeoutError(
                f"execution {self.id!r} has not ended within {timeout:g} s; it goes on: wait longer, or look at it "
                f"with `edow show {self.id}`"
            ) from error

    async def _refuse_if_dead_letter(self) -> None:
        letters = await self._link.store.dead_letters_list(DeadLetterFilter(execution=self.id, limit=1))
        if letters:
            raise WrongState(
                f"execution {self.id!r} waits for its dead letter {letters[0].id!r}; redrive or discard that instead"
            )

    async def _outcome(self) -> msgspec.Raw | Failed:
        run = self.run
        while True:
            row = await self._link.waiter.ended(self.id, ANY_RUN if run is None else run)
            if row is None:
                raise await self._link.missing(self.id)
            if run is None or run == row.run:
                return outcome_of_row(row)
            earlier = await self._outcome_before(run, row.run)
            if not isinstance(earlier, Continued):
                return earlier
            run = row.run
            if row.status in ENDED:
                return outcome_of_row(row)

    async def _outcome_before(self, run: int, current: int) -> Outcome:
        """Of the earlier runs from `run` on: the first that did not simply continue as new."""
        outcome: Outcome = Continued()
        for each in range(run, current):
            outcome = outcome_of_run(self.id, each, await self._link.store.history_get(self.id, each))
            if not isinstance(outcome, Continued):
                break
        return outcome
