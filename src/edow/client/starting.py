"""From what a caller says (a workflow, its arguments, options) to the start that is stored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import msgspec

from edow.client.link import Link
from edow.errors import InvalidInput
from edow.model.execution import Execution
from edow.store.contract import IfExists, StartRequest
from edow.store.starting import start_of
from edow.telemetry.exporter import starting
from edow.workflow import codec
from edow.workflow.definition import Workflow
from edow.workflow.naming import execution_id

IF_EXISTS: tuple[IfExists, ...] = get_args(IfExists)

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


def is_traceparent(text: str) -> bool:
    """Whether it is in the form of W3C Trace Context."""
    return _TRACEPARENT.fullmatch(text) is not None


class StartOptions(msgspec.Struct, frozen=True):
    """How one execution is started. `id` None: made up; `trace`: a W3C traceparent; `correlation` "": the id; `notify`:
    the endpoint that is told of its end.
    """

    id: str | None = None
    if_exists: IfExists = "attach"
    trace: str = ""
    correlation: str = ""
    notify: str = ""

    def checked(self) -> StartOptions:
        """Itself, if every option can be. Raises InvalidInput."""
        if self.id is not None:
            execution_id(self.id)
        if self.if_exists not in IF_EXISTS:
            raise InvalidInput(f"if_exists {self.if_exists!r} is unknown: use {', '.join(IF_EXISTS)}")
        if self.trace and not is_traceparent(self.trace):
            raise InvalidInput(f"traceparent {self.trace!r} is not in the W3C form 00-<32 hex>-<16 hex>-<2 hex>")
        return self


def options_of(workflow: Workflow[..., Any]) -> StartOptions:
    """As given to `workflow.with_options`."""
    return StartOptions(workflow.child_id, workflow.if_exists, notify=workflow.notify).checked()


def start_request(link: Link, workflow: str, body: msgspec.Raw, options: StartOptions) -> StartRequest:
    """`body`: the parameters by name, as a JSON object."""
    execution = options.id or link.ids.new(workflow)
    return new_start(execution, workflow, body, options, (link.store.shards, link.clock()))


def new_start(
    execution: str, workflow: str, body: msgspec.Raw, options: StartOptions, place: tuple[int, int]
) -> StartRequest:
    """Of an execution whose id is known. `place`: how many shards there are, and what time it is."""
    row = Execution(
        id=execution,
        workflow=workflow,
        shard=0,
        input=body,
        correlation=options.correlation,
        trace=options.trace,
        notify=options.notify,
    )
    return start_of(row, place, options.if_exists)


def start_requests(
    link: Link,
    workflow: Workflow[..., Any],
    inputs: Iterable[Sequence[object] | Mapping[str, object]],
    ids: Iterable[str] | None,
) -> Iterator[StartRequest]:
    """One per input, made as they are asked for. Raises SignatureMismatch, InvalidInput when there are fewer ids."""
    options = options_of(workflow)
    names = iter(ids) if ids is not None else None
    for position, values in enumerate(inputs):
        args, kwargs = ((), values) if isinstance(values, Mapping) else (tuple(values), {})
        body = workflow.signature.encode_call(args, kwargs)
        if names is not None:
            options = msgspec.structs.replace(options, id=_next_id(names, position))
        with starting(workflow.name, "") as trace:
            yield start_request(link, workflow.name, body, msgspec.structs.replace(options, trace=trace))


def _next_id(names: Iterator[str], position: int) -> str:
    try:
        return execution_id(next(names))
    except StopIteration:
        raise InvalidInput(f"there are {position} ids but more inputs; give one id for each input") from None


def parameters(values: object, what: str) -> msgspec.Raw:
    """JSON values by parameter name, as a JSON object. Raises InvalidInput, NotEncodable, PayloadTooLarge."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise InvalidInput(f'{what} must be an object of parameters by name, like {{"order": 7}}, not {values!r:.80}')
    return codec.encode(dict(values), what)
