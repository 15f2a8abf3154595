"""What a client and its handles share: the store, the submitter, the waiter and the clock.

It turns a store's answers into errors that name the execution and the remedy, and knows no workflow.
"""

from __future__ import annotations

import copy
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from edow.client import audit
from edow.client.actor import Actor
from edow.client.ids import IdSource
from edow.client.submitter import Submitter
from edow.client.waiter import EndWaiter
from edow.errors import AlreadyExists, InvalidInput, NotAccepted, NotFound, RecordChanged, WrongState
from edow.model import inbox
from edow.model.execution import Execution
from edow.store.contract import Answer, CommandRequest, ExecutionFilter, Put, Request, StartRequest, Store
from edow.trigger.outgoing import is_endpoint

T = TypeVar("T")

TRIES = 20  # to write a record that others write too


def wall_clock() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000


class Link:
    """An open client's inside."""

    actor: Actor | None = None  # whose actions go into the audit log

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

    def acting_as(self, actor: Actor | None) -> Link:
        """The same inside, for another actor."""
        other = copy.copy(self)
        other.actor = actor
        return other

    async def command(self, execution: str, command: inbox.AnyCommand) -> None:
        """Put a command into the execution's inbox. Raises NotFound and WrongState."""
        request = CommandRequest(execution, inbox.encode(command))
        if self.actor is None:
            [answer] = await self.submitter.submit([request])
            await self.check(execution, answer)
            return
        action = f"execution.{type(command).__name__.lower()}"
        try:
            await self.act(action, execution, told_of(command), [request], all_or_nothing=True)
        except NotAccepted:
            row = await self.row(execution)
            await self.check(execution, Answer("ended", row.run, row.status))

    async def act(
        self,
        action: str,
        target: str,
        parameters: Mapping[str, audit.Value],
        requests: Sequence[Request] = (),
        puts: Sequence[Put] = (),
        *,
        all_or_nothing: bool = False,
    ) -> list[Answer]:
        """Do what an operator asks for, and write it down, in one transaction.

        Raises RecordChanged and NotAccepted, with nothing done. If, without `all_or_nothing`, no request could be
        accepted, the entry is made to say so.
        """
        now = self.clock()
        if self.actor is None:
            return await self.store.records_put(puts, now, requests, all_or_nothing=all_or_nothing)
        entry = audit.entry(self.actor, now, action, target, parameters)
        written = [*puts, audit.put(entry)]
        answers = await self.store.records_put(written, now, requests, all_or_nothing=all_or_nothing)
        if answers and not any(each.outcome == "accepted" for each in answers):
            refused = msgspec.structs.replace(entry, outcome="refused", reason=answers[0].outcome)
            await self.store.records_put([audit.put(refused)], now)
        return answers

    async def insist(self, action: str, target: str, reason: str, change: Callable[[], Awaitable[tuple[T, Put]]]) -> T:
        """Write what an operator makes of a record that others write, too: `change` reads it, and may be asked again.
        Raises what that raises, and RecordChanged.
        """
        for _ in range(TRIES - 1):
            with suppress(RecordChanged):  # it went a step further
                return await self._change(action, target, reason, change)
        return await self._change(action, target, reason, change)

    async def _change(self, action: str, target: str, reason: str, change: Callable[[], Awaitable[tuple[T, Put]]]) -> T:
        changed, put = await change()
        await self.act(action, target, {"reason": reason}, puts=[put])
        return changed

    def entries(self, action: str, target: str, parameters: Mapping[str, audit.Value], now: int) -> list[Put]:
        """What the audit log is told of an operator's action, to be written with it; nothing of a program's."""
        return [] if self.actor is None else [audit.put(audit.entry(self.actor, now, action, target, parameters))]

    async def start(self, requests: Sequence[StartRequest]) -> list[Answer]:
        """Of one workflow, all with the same `if_exists`. A program's share their transaction with other callers'."""
        if self.actor is None or not requests:
            return await self.submitter.submit(requests)
        first = requests[0]
        told: dict[str, audit.Value] = {"workflow": first.execution.workflow}
        if first.execution.notify:
            told["notify"] = first.execution.notify
        if len(requests) > 1:
            told["executions"] = len(requests)
        action = "execution.replace" if first.if_exists == "replace" else "execution.start"
        return await self.act(action, first.execution.id if len(requests) == 1 else "", told, requests)

    async def check_notify(self, endpoint: str) -> None:
        """Raises InvalidInput unless an operator has made this endpoint; "" is none."""
        if endpoint and not await is_endpoint(self.store, endpoint):
            raise InvalidInput(
                f"notify: there is no endpoint {endpoint!r:.120}; `edow endpoint list` shows what there is"
            )

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


def told_of(command: inbox.AnyCommand) -> dict[str, audit.Value]:
    """What the audit log says of a command: which, and why; of a payload, how long it is."""
    match command:
        case inbox.Signal(name=name, payload=payload):
            return {"name": name, "bytes": len(bytes(payload))}
        case inbox.Cancel(reason=reason) | inbox.Terminate(reason=reason) | inbox.Pause(reason=reason) if reason:
            return {"reason": reason}
        case _:
            return {}


def as_json(value: object) -> msgspec.Raw:
    """Only for values that came out of a JSON decoder."""
    return msgspec.Raw(msgspec.json.encode(value))
