"""What a hook or an event does: start a workflow, or signal an execution. Applied exactly once for each claim.

A claim is a record with the delivery's or event's id, written in one transaction with the start or the signal; of two
processes with the same delivery one writes it, and the other answers that it has been done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import blake2b
from typing import Literal

import msgspec

from edow.errors import InvalidInput, NotAccepted, RecordChanged, StoreUnavailable
from edow.model.execution import ENDED, Execution
from edow.model.inbox import Signal, encode
from edow.store.contract import CommandRequest, LetterState, Put, Request, StartRequest, Store
from edow.store.starting import start_of
from edow.telemetry.exporter import starting
from edow.trigger.mapping import Expression, Json
from edow.workflow.naming import definition_name, execution_id

Mode = Literal["start", "signal", "start-or-signal"]
MODES: tuple[Mode, ...] = ("start", "signal", "start-or-signal")
TRIES = 20  # of one claim, while others change what it depends on
DAY = 86_400.0
EVENTS = "event"  # kind of the records of what was kept, seen and counted
KEPT = "kept/"
SINGLE = "single/"
SPARE_US = 86_400_000_000  # how much longer a kept event's record stays than it is of use

NULL = msgspec.Raw(b"null")

_json = msgspec.json.encode


class Action(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The part of a definition that hooks and event triggers share. `id`, `input` and `value` are expressions."""

    mode: Mode = "start"
    workflow: str = ""
    signal: str = ""
    id: str = ""  # of the execution; only a start may do without: then each delivery starts one of its own
    input: str = "body"  # of the workflow: an object of parameters by name
    value: str = "body"  # of the signal
    singleton: bool = False  # once the execution of that id has ended, start it again
    keep: float = DAY  # seconds for which a signal waits for its execution to be started

    def check(self, what: str) -> None:
        """Raises InvalidInput."""
        if self.mode not in MODES:
            raise InvalidInput(f"mode {self.mode!r} of {what} is unknown: use {', '.join(MODES)}")
        for name, needed in (("workflow", self.mode != "signal"), ("signal", self.mode != "start")):
            value = getattr(self, name)
            if needed:
                definition_name(value, name)
            elif value:
                raise InvalidInput(f"{what} has the mode {self.mode}, which takes no {name} ({value!r})")
        if not self.id and (self.mode != "start" or self.singleton):
            raise InvalidInput(f"{what} needs an expression for the execution's id, such as body.order.id")
        if self.singleton and self.mode == "signal":
            raise InvalidInput(f"{what} has the mode signal, which starts nothing, so singleton has no meaning")
        if not 0 <= self.keep <= 366 * DAY:
            raise InvalidInput(f"keep of {what} must be from 0 to 366 days, not {self.keep:g} s")
        Plan(self, what)


class Intent(msgspec.Struct, frozen=True):
    """What is to be done about one payload."""

    action: Action
    execution: str
    input: msgspec.Raw | None = None
    value: msgspec.Raw | None = None
    trace: str = ""


class Plan:
    """An action with its expressions compiled. Raises InvalidInput."""

    def __init__(self, action: Action, what: str) -> None:
        self.action = action
        self._what = what
        self._id = Expression(action.id, f"the id of {what}") if action.id else None
        self._input = Expression(action.input, f"the input of {what}")
        self._value = Expression(action.value, f"the value of {what}")

    def key(self, context: Json) -> str | None:
        """The execution's id; None: there is no expression for it. Raises InvalidInput."""
        if self._id is None:
            return None
        found = self._id.text_of(context)
        if found is None:
            raise InvalidInput(f"the id of {self._what} ({self.action.id!r:.80}) finds nothing in this payload")
        return execution_id(found)

    def intent(self, context: Json, execution: str, trace: str = "") -> Intent:
        """Raises InvalidInput, PayloadTooLarge."""
        mode = self.action.mode
        given = self._input.parameters_of(context) if mode != "signal" else None
        value = self._value.json_of(context) if mode != "start" else None
        return Intent(self.action, execution, given, value, trace)


Outcome = Literal["started", "attached", "signalled", "kept", "unmatched", "gathered", "duplicate"]


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """attached: an execution of that id was there already. kept: it was not, and the signal waits for it.
    unmatched: it has ended. gathered: it waits for others. duplicate: done before; the execution is the one of then.
    """

    outcome: Outcome
    execution: str


Family = Literal["hooks", "triggers", "endpoints"]


class Claim(msgspec.Struct, frozen=True):
    """The record that says it is done, for the hook or trigger of that name."""

    family: Family
    name: str
    kind: str
    key: str
    expires_at: int


class Beside(msgspec.Struct, frozen=True):
    """What is written in the transaction that applies: records, and the end of the dead letter that this was."""

    puts: Sequence[Put] = ()
    letter: str = ""

    def with_puts(self, more: Sequence[Put]) -> Beside:
        return Beside([*self.puts, *more], self.letter)

    def closed(self, outcome: str) -> list[LetterState]:
        return [LetterState(self.letter, "redriven", outcome)] if self.letter else []


ALONE = Beside()


def digest(*parts: str | bytes) -> str:
    """A short name for what may be long and may hold anything."""
    hashed = blake2b(digest_size=16)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        hashed.update(len(data).to_bytes(8) + data)
    return hashed.hexdigest()


class Applier:
    """Does what intents say, in one store."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._ways: Mapping[Mode, Callable[[Intent, Claim, Beside], Awaitable[Result]]] = {
            "start": self._start,
            "signal": self._signal,
            "start-or-signal": self._start_or_signal,
        }

    async def apply(self, intent: Intent, claim: Claim, beside: Beside = ALONE) -> Result:
        """Raises RecordChanged when what is beside it cannot be written. Of a duplicate nothing is."""
        for _ in range(TRIES):
            try:
                return await self._ways[intent.action.mode](intent, claim, beside)
            except RecordChanged as problem:
                if problem.key == claim.key:
                    if (done := await self.done(claim)) is not None:
                        return done
                elif not problem.key.startswith(SINGLE):
                    raise
            except NotAccepted:
                pass  # it was started, or has ended, just now: look again
        raise StoreUnavailable(f"execution {intent.execution!r}: too many others start and end it; try again")

    async def done(self, claim: Claim) -> Result | None:
        """What was done about it before."""
        [record] = await self._store.records_get(claim.kind, [claim.key])
        if record is None:
            return None
        return Result("duplicate", msgspec.json.decode(record.body, type=Result).execution)

    async def _start(self, intent: Intent, claim: Claim, beside: Beside) -> Result:
        try:
            return await self._write("started", intent, claim, beside, [self._new(intent)])
        except NotAccepted:
            row = await self._row(intent)
        if row is None:
            raise NotAccepted(("missing",))
        if intent.action.singleton and row.status in ENDED:
            return await self._again(intent, claim, beside)
        return await self._write("attached", intent, claim, beside, [])

    async def _signal(self, intent: Intent, claim: Claim, beside: Beside) -> Result:
        try:
            return await self._write("signalled", intent, claim, beside, [_signal(intent)])
        except NotAccepted as problem:
            if problem.outcomes == ("missing",):
                kept = self._kept(intent, claim)
                return await self._write("kept" if kept else "unmatched", intent, claim, beside.with_puts(kept), [])
        return await self._write("unmatched", intent, claim, beside, [])

    async def _start_or_signal(self, intent: Intent, claim: Claim, beside: Beside) -> Result:
        try:
            return await self._write("signalled", intent, claim, beside, [_signal(intent)])
        except NotAccepted as problem:
            missing = problem.outcomes == ("missing",)
        if missing:
            return await self._write("started", intent, claim, beside, [self._new(intent)])
        if intent.action.singleton:
            return await self._again(intent, claim, beside)
        return await self._write("unmatched", intent, claim, beside, [])

    async def _again(self, intent: Intent, claim: Claim, beside: Beside) -> Result:
        """Begin another run of what has ended. Of all who see that it has, one writes the guard in the version it read
        before it looked; the others look again, and find the new run.
        """
        key = f"{SINGLE}{digest(intent.execution)}"
        [guard] = await self._store.records_get(EVENTS, [key])
        row = await self._row(intent)
        if row is None or row.status not in ENDED:
            raise NotAccepted(("running",))
        put = Put(EVENTS, key, b"", guard.version if guard else 0, self._clock() + SPARE_US, quiet=True)
        return await self._write("started", intent, claim, beside.with_puts([put]), [self._new(intent, again=True)])

    async def _write(
        self, outcome: Outcome, intent: Intent, claim: Claim, beside: Beside, requests: Sequence[Request]
    ) -> Result:
        result = Result(outcome, intent.execution)
        put = Put(claim.kind, claim.key, _json(result), 0, claim.expires_at, quiet=True)
        letters = beside.closed(outcome)
        await self._store.records_put([put, *beside.puts], self._clock(), requests, letters, all_or_nothing=True)
        return result

    async def _row(self, intent: Intent) -> Execution | None:
        [row] = await self._store.executions_get([intent.execution])
        return row

    def _new(self, intent: Intent, *, again: bool = False) -> StartRequest:
        workflow = intent.action.workflow
        with starting(workflow, intent.trace) as trace:
            given = intent.input or msgspec.Raw(b"{}")
            row = Execution(id=intent.execution, workflow=workflow, shard=0, input=given, trace=trace)
        return start_of(row, (self._store.shards, self._clock()), "replace" if again else "reject")

    def _kept(self, intent: Intent, claim: Claim) -> list[Put]:
        until = self._clock() + round(intent.action.keep * 1_000_000)
        if not intent.action.keep:
            return []
        event = Kept(claim.family, claim.name, intent.execution, intent.action.signal, intent.value or NULL, until)
        return [Put(EVENTS, f"{KEPT}{self._clock():020d}/{claim.kind}/{claim.key}", _json(event), 0, until + SPARE_US)]


class Kept(msgspec.Struct, frozen=True):
    """A signal that waits for its execution, and of which hook or trigger it is."""

    family: Family
    name: str
    execution: str
    signal: str
    value: msgspec.Raw
    until: int

    def request(self) -> CommandRequest:
        """What delivers it."""
        return CommandRequest(self.execution, encode(Signal(name=self.signal, payload=self.value)))


def _signal(intent: Intent) -> CommandRequest:
    return CommandRequest(intent.execution, encode(Signal(name=intent.action.signal, payload=intent.value or NULL)))
