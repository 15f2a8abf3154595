"""`@edow.workflow`: a function that is executed durably. Inside another workflow a call is a child execution.

Promises the same typed arguments and results as tasks; outside a workflow the function simply runs, for unit tests.
Knows nothing of how an execution is driven.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from edow.errors import InvalidInput
from edow.workflow.naming import definition_name, execution_id, step_name
from edow.workflow.runtime import current
from edow.workflow.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")

OnClose = Literal["cancel", "terminate", "abandon"]
IfExists = Literal["attach", "reject", "replace"]


class ChildOptions(TypedDict, total=False):
    """What `Workflow.with_options` takes. `id` is for a child and for Client.start, `if_exists` and `notify` for
    Client.start alone, the others for a child."""

    id: str
    if_exists: IfExists
    notify: str
    on_close: OnClose
    step: str


class Workflow(Generic[P, R]):
    """What `@edow.workflow` makes of an `async def`."""

    def __init__(self, fn: Callable[P, Coroutine[Any, Any, R]], name: str | None = None) -> None:
        if not inspect.iscoroutinefunction(fn):
            raise InvalidInput(f"{fn!r} cannot be a workflow: decorate an `async def`")
        self.fn = fn
        self.name = definition_name(name or fn.__name__, "workflow")
        self.step: str | None = None
        self.child_id: str | None = None
        self.if_exists: IfExists = "attach"
        self.notify = ""
        self.on_close: OnClose = "cancel"
        self._signature: Signature[R] | None = None
        functools.update_wrapper(self, fn, updated=())

    @property
    def what(self) -> str:
        """For error messages."""
        return f"workflow {self.name}"

    @property
    def signature(self) -> Signature[R]:
        found = self._signature
        if found is None:
            found = self._signature = Signature(self.fn, self.what)
        return found

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R]:
        runtime = current.get()
        if runtime is None:
            return self.fn(*args, **kwargs)
        if self.notify:
            raise InvalidInput(
                f"{self.what}: notify={self.notify!r} is for Client.start; a child's parent knows its end"
            )
        return runtime.call_child(self, self.signature.encode_call(args, kwargs))

    def with_options(self, **options: Unpack[ChildOptions]) -> Workflow[P, R]:
        """For one place of use: `id` of the execution and what a taken id means; as a child, its step's name and
        what becomes of it when the parent ends."""
        if unknown := set(options) - set(ChildOptions.__annotations__):
            known = ", ".join(sorted(ChildOptions.__annotations__))
            raise InvalidInput(f"{self.what}.with_options() has no option {sorted(unknown)[0]!r}; it takes {known}")
        self.signature  # noqa: B018  # built once here, shared by all variants
        variant = copy.copy(self)
        variant.if_exists = options.get("if_exists", self.if_exists)
        variant.notify = options.get("notify", self.notify)
        if "step" in options:
            variant.step = step_name(options["step"])
        if "id" in options:
            variant.child_id = execution_id(options["id"])
        variant.on_close = options.get("on_close", self.on_close)
        if variant.on_close not in ("cancel", "terminate", "abandon"):
            raise InvalidInput(f'{self.what}: on_close={variant.on_close!r}: give "cancel", "terminate" or "abandon"')
        return variant

    def __repr__(self) -> str:
        return f"<edow.workflow {self.name} ({self.fn.__module__}.{self.fn.__qualname__})>"


class WorkflowDecorator(Protocol):
    """What `@edow.workflow(name=...)` returns."""

    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, R]: ...
@overload
def workflow(*, name: str | None = None) -> WorkflowDecorator: ...
def workflow(fn: Callable[..., Any] | None = None, /, *, name: str | None = None) -> Any:
    """Make an `async def` a workflow: `@edow.workflow` or `@edow.workflow(name="fulfil-order")`."""
    if fn is not None:
        return Workflow(fn, name)
    return lambda function: Workflow(function, name)
