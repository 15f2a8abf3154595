"""`edow.Client`: what programs use to start executions and to act on them.

It needs only a store: any process that reaches the database may be a client, whether or not an orchestrator runs there.
What it reports as accepted is on disk. Calls made at the same time share transactions and reads.
"""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

import msgspec

from edow.client.actor import Actor
from edow.client.audit import AuditFilter, AuditPage, page
from edow.client.batches import start_in_batches
from edow.client.desk import Desk
from edow.client.endpoints import Endpoints
from edow.client.handle import Handle
from edow.client.hooks import Hooks
from edow.client.jobs import Jobs
from edow.client.kpis import Kpis
from edow.client.letters import Args, Letters
from edow.client.link import Link
from edow.client.selection import Selection
from edow.client.starting import StartOptions, options_of, parameters, start_request, start_requests
from edow.client.tokens import Tokens
from edow.client.triggers import Triggers
from edow.errors import Closed, InvalidInput, NotFound
from edow.model import history
from edow.model.execution import Execution
from edow.model.history import AnyEvent
from edow.store.contract import (
    Answer,
    DeadLetter,
    DeadLetterFilter,
    ExecutionFilter,
    IfExists,
    Page,
    StartRequest,
    Store,
)
from edow.telemetry.exporter import starting
from edow.trigger.schedules import Schedules
from edow.workflow.definition import Workflow
from edow.workflow.naming import MAX_CHILD_ID, definition_name, execution_id
from edow.workflow.registry import Registry

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Client:
    """Use as `async with edow.Client("sqlite:///edow.db") as client`, or with `store=` an open store of your own."""

    def __init__(self, url: str | None = None, *, store: Store | None = None, actor: Actor | None = None) -> None:
        """`actor`: an operator, whose actions are written into the audit log."""
        if url is not None and store is not None:
            raise InvalidInput("give a Client either a store URL or an open store, not both")
        self._url = url
        self._store = store
        self._actor = actor
        self._open: Link | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        store = self._store
        if store is None:
            from edow.app import System

            store = (await self._stack.enter_async_context(System(self._url))).store
        link = Link(store)
        self._stack.push_async_callback(link.close)
        self._open = link.acting_as(self._actor)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = None
        await self._stack.aclose()

    @property
    def _link(self) -> Link:
        if self._open is None:
            raise Closed("this client is not open; use it inside `async with edow.Client(...) as client:`")
        return self._open

    def acting_as(self, actor: Actor) -> Client:
        """This client, whose actions from now on are those of an operator. It needs no opening, and no closing."""
        other = Client(store=self._link.store, actor=actor)
        other._open = self._link.acting_as(actor)
        return other

    def tokens(self) -> Tokens:
        """The API's bearer tokens."""
        return Tokens(self._link)

    def hooks(self) -> Hooks:
        """The incoming webhooks."""
        return Hooks(self._link)

    def endpoints(self) -> Endpoints:
        """Where outgoing webhooks go."""
        return Endpoints(self._link)

    def triggers(self) -> Triggers:
        """What messages on topics start and signal."""
        return Triggers(self._link)

    def kpis(self) -> Kpis:
        """What was measured; objectives, alerts and incidents."""
        return Kpis(self._link)

    def jobs(self) -> Jobs:
        """Bulk jobs: one action on all executions that match."""
        return Jobs(self._link)

    async def audit(self, where: AuditFilter | None = None) -> AuditPage:
        """What operators did, newest first."""
        return await page(self._link.store, where or AuditFilter())

    # starting

    async def start(self, workflow: Workflow[P, R], *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Start an execution; returns after it is on disk. Options (id, if_exists, notify) come from
        `workflow.with_options`.

        Raises SignatureMismatch, AlreadyExists, PayloadTooLarge, InvalidInput.
        """
        link = self._link
        body = workflow.signature.encode_call(args, kwargs)
        options = options_of(workflow)
        await link.check_notify(options.notify)
        with starting(workflow.name, options.trace) as trace:
            request = start_request(link, workflow.name, body, msgspec.structs.replace(options, trace=trace))
            return await self._started(request, workflow.signature.decode_result)

    async def start_many(
        self,
        workflow: Workflow[..., R],
        inputs: Iterable[Sequence[object] | Mapping[str, object]],
        ids: Iterable[str] | None = None,
    ) -> list[Handle[R]]:
        """Start one execution per input: a tuple of arguments, or a mapping by name. About 1000 share a transaction.

        Stops at the first input that does not fit; the error says how many had been started, and those go on.
        """
        link = self._link
        await link.check_notify(workflow.notify)
        requests = start_requests(link, workflow, inputs, ids)
        answers = await start_in_batches(link, requests)
        return [Handle(link, execution, run, workflow.signature.decode_result) for execution, run in answers]

    async def start_named(
        self,
        workflow: str,
        values: Mapping[str, object],
        *,
        id: str | None = None,
        if_exists: IfExists = "attach",
        traceparent: str = "",
        notify: str = "",
    ) -> Handle[object]:
        """Start by name, without the workflow's code; `values` are JSON values by name. `notify`: the endpoint
        that is told of the end, besides those that are told of every end.

        An orchestrator that knows the workflow checks them when it begins.
        """
        definition_name(workflow, "workflow")
        body = parameters(values, f"the input of {workflow!r}")
        options = StartOptions(id, if_exists, traceparent, notify=notify).checked()
        await self._link.check_notify(notify)
        with starting(workflow, traceparent) as trace:
            options = msgspec.structs.replace(options, trace=trace)
            return await self._started(start_request(self._link, workflow, body, options), msgspec.json.decode)

    async def submit_named(
        self,
        workflow: str,
        inputs: Sequence[tuple[str | None, Mapping[str, object]]],
        *,
        if_exists: IfExists = "attach",
        traceparent: str = "",
        notify: str = "",
    ) -> builtins.list[tuple[str, Answer]]:
        """Start executions by name in one transaction; for each its id, and what became of it. `inputs`: an id, or
        None for one made up, and JSON values by parameter name.
        """
        definition_name(workflow, "workflow")
        link, requests = self._link, []
        await link.check_notify(notify)
        for id, values in inputs:
            body = parameters(values, f"the input of {workflow!r}")
            options = StartOptions(id, if_exists, traceparent, notify=notify).checked()
            with starting(workflow, traceparent) as trace:
                requests.append(start_request(link, workflow, body, msgspec.structs.replace(options, trace=trace)))
        answers = await link.start(requests)
        return [(each.execution.id, answer) for each, answer in zip(requests, answers, strict=True)]

    # looking

    def get(self, id: str) -> Handle[object]:
        """A handle on an execution that may or may not exist; its current run is meant."""
        return Handle(self._link, execution_id(id, limit=MAX_CHILD_ID), None, msgspec.json.decode)

    async def page(self, where: ExecutionFilter | None = None) -> Page:
        """One page of executions, newest first, and the cursor of the next."""
        return await self._link.store.executions_list(where or ExecutionFilter())

    async def list(self, where: ExecutionFilter | None = None) -> AsyncIterator[Execution]:
        """All executions that match, newest first, read page by page; `where.limit` is the page size."""
        where = where or ExecutionFilter(limit=500)
        while True:
            page = await self.page(where)
            for row in page.executions:
                yield row
            if page.cursor is None:
                return
            where = msgspec.structs.replace(where, cursor=page.cursor)

    async def history(self, id: str, run: int | None = None) -> builtins.list[AnyEvent]:
        """The events of a run (None: the current one), in order. Raises NotFound."""
        link = self._link
        row = await link.row(execution_id(id, limit=MAX_CHILD_ID))
        segments = await link.store.history_get(id, run or row.run)
        if not segments:
            raise NotFound(f"execution {id!r} has no history of run {run or row.run}; its current run is {row.run}")
        return [event for segment in segments for event in history.decoder.decode(segment)]

    # dead letters

    async def dead_letters(self, where: DeadLetterFilter | None = None) -> builtins.list[DeadLetter]:
        """Dead letters that match, oldest first; by default those that wait for somebody to act."""
        return await self._link.store.dead_letters_list(where or DeadLetterFilter())

    async def redrive(
        self, which: Selection, args: Args | None = None, *, registry: Registry | None = None, unchecked: bool = False
    ) -> int:
        """Run the steps of parked dead letters again; how many were accepted.

        `args` (by parameter name, or a function of the letter) replaces the arguments; they are checked against the
        task's signature, for which `registry` must hold the task, unless `unchecked`. Raises NotFound,
        WrongState, SignatureMismatch.
        """
        return await Letters(self._link).redrive(which, args, registry, unchecked)

    async def discard(self, which: Selection, reason: str) -> int:
        """Answer the steps of parked dead letters with TaskDiscarded; how many were accepted.

        Raises InvalidInput without a reason, NotFound, WrongState.
        """
        return await Letters(self._link).discard(which, reason)

    def desk(self) -> Desk:
        """Dead letters by what went wrong: grouped, set aside, tried out, redriven in stages."""
        return Desk(self._link)

    # schedules

    def schedules(self) -> Schedules:
        """What is started at the times of a calendar."""
        link = self._link
        return Schedules(link.store, link.clock, link.act)

    async def _started(self, request: StartRequest, decode: Callable[[bytes], T]) -> Handle[T]:
        link = self._link
        [answer] = await link.start([request])
        await link.check(request.execution.id, answer)
        return Handle(link, request.execution.id, answer.run, decode)
