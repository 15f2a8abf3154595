"""What a client and its handles share: the store, the submitter, the waiter and the clock.

It turns a store's answers into errors that name the execution and the remedy, and knows no workflow.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import msgspec

from edow.client.ids import IdSource
from edow.client.submitter import Submitter
from edow.client.waiter import EndWaiter
from edow.errors import AlreadyExists, NotFound, WrongState
from edow.model import inbox
from edow.model.execution import Execution
from edow.store.contract import Answer, CommandRequest, ExecutionFilter, Store


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Link:
    """An open client's inside."""

    def __init__(self, store: Store, clock: Callable[[], int] = wall_clock) -> None:
        self.store = store
        self.clock = clock
        self.ids = IdSource(clock, secrets.randbits)
        self.submitter = Submitter(store, clock)
        self.waiter = EndWaiter(store, time.perf_counter)

    async def close(self) -> None:
        """Finish what was submitted; whoever waits for a result gets `Closed`."""
        await self.waiter.close()
        await self.submitter.close()

    async def row(self, execution: str) -> Execution:
        """The execution's row as it is now. Raises NotFound."""
        [row] = await self.store.executions_get([execution])
        if row is None:
            raise await self.missing(execution)
        return row

    async def command(self, execution: str, command: inbox.AnyCommand) -> None:
        """Put a command into the execution's inbox. Raises NotFound and WrongState."""
        [answer] = await self.submitter.submit([CommandRequest(execution, inbox.encode(command))])
        await self.check(execution, answer)

    async def check(self, execution: str, answer: Answer) -> None:
        """Raise what the answer means, if it is not an acceptance."""
        match answer.outcome:
            case "missing":
                raise await self.missing(execution)
            case "ended":
                raise WrongState(
                    f"execution {execution!r} has ended ({answer.status}); "
                    "start it again with the same id and if_exists='replace' if that is what you want"
                )
            case "exists":
                raise AlreadyExists(
                    f"execution {execution!r} exists already ({answer.status}, run {answer.run}); "
                    "choose another id, or if_exists='attach' or 'replace'"
                )
            case _:
                return

    async def missing(self, execution: str) -> NotFound:
        """The error for an unknown id, with ids that begin alike."""
        near = await self._near(execution)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; `edow list` shows what there is"
        return NotFound(f"there is no execution {execution!r} in this store{hint}")

    async def _near(self, execution: str) -> list[str]:
        for prefix in (execution, execution[: len(execution) * 3 // 4]):
            if prefix:
                page = await self.store.executions_list(ExecutionFilter(id_prefix=prefix, limit=3))
                if page.executions:
                    return [row.id for row in page.executions]
        return []


def as_json(value: object) -> msgspec.Raw:
    """Only for values that came out of a JSON decoder."""
    return msgspec.Raw(msgspec.json.encode(value))
