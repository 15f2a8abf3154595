"""`@edow.task`: a function that a worker runs. Inside a workflow a call is a durable step, outside a plain call.

Promises that `await task(...)` has the function's return type and that a call which does not fit raises where it is
written. Knows nothing of how a step is journalled, dispatched or retried.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from edow.errors import InvalidInput
from edow.model.policy import Exhausted, StepPolicy, Timeouts
from edow.workflow.duration import Duration, optional_seconds
from edow.workflow.failures import Classes
from edow.workflow.naming import definition_name, step_name
from edow.workflow.retry import Retry, exception_class
from edow.workflow.runtime import current
from edow.workflow.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")

Kind = Literal["async", "thread", "process"]
KeyOf = str | Callable[..., str | None] | None


class CallOptions(TypedDict, total=False):
    """What `Task.with_options` takes."""

    step: str | None
    retry: Retry | int
    timeout: Duration | None
    schedule_to_start: Duration | None
    schedule_to_close: Duration | None
    heartbeat: Duration | None
    exhausted: Exhausted
    topic: str
    key: KeyOf


class TaskOptions(TypedDict, total=False):
    """What `@edow.task(...)` takes. `timeout` is start-to-close: of each attempt."""

    name: str | None
    retry: Retry | int
    timeout: Duration | None
    schedule_to_start: Duration | None
    schedule_to_close: Duration | None
    heartbeat: Duration | None
    exhausted: Exhausted
    topic: str
    key: KeyOf
    cpu: bool
    raises: tuple[type[BaseException], ...]


class Task(Generic[P, R]):
    """What `@edow.task` makes of a function.

    `fn` is the function, `kind` where it runs (on the event loop, in a thread, in a process), `policy` how it is looked
    after, `give_up_on` and `declared` the exception classes that are final, and that come back as themselves.
    """

    def __init__(self, fn: Callable[..., Any], options: TaskOptions) -> None:
        self.fn = _checked_function(fn)
        self.name = definition_name(options.get("name") or getattr(fn, "__name__", "<?>"), "task")
        self.kind: Kind = _kind(fn, options.get("cpu", False), self.name)
        self.raises = _exception_classes(options.get("raises", ()), self.name)
        self.step: str | None = None
        self.retry = _retry(options.get("retry", Retry()), self.name)
        self.policy = _policy(StepPolicy(self.retry.policy(), DEFAULT_TIMEOUTS), options, self.name)
        self._key = _key_function(options.get("key"), self.name)
        self._signature: Signature[R] | None = None
        functools.update_wrapper(self, fn, updated=())

    @property
    def give_up_on(self) -> Classes:
        return self.retry.classes

    @property
    def declared(self) -> Classes:
        return self.raises + self.retry.classes

    @property
    def what(self) -> str:
        """For error messages."""
        return f"task {self.name}"

    @property
    def signature(self) -> Signature[R]:
        found = self._signature
        if found is None:
            found = self._signature = Signature(self.fn, self.what)
        return found

    # Coroutine[object, None, R] rather than [Any, Any, R]: mypy would make Any of asyncio.gather(...) with the latter.
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R]:
        runtime = current.get()
        if runtime is None:
            return self._plain(args, kwargs)
        payload = (self._signature or self.signature).encode_call(args, kwargs)
        key = self._key
        return runtime.call_task(self, payload, key and _checked_key(key(*args, **kwargs), self.name))

    def partition_key(self, *args: P.args, **kwargs: P.kwargs) -> str | None:
        """Steps of one key keep their order. Raises InvalidInput for what is no text."""
        return _checked_key(self._key(*args, **kwargs), self.name) if self._key else None

    def with_options(self, **options: Unpack[CallOptions]) -> Task[P, R]:
        """The same task for one place of use: its step's name, timeouts, retry, partition key."""
        _refuse_unknown(options, CallOptions.__annotations__, f"{self.name}.with_options()")
        self.signature  # noqa: B018  # built once here, shared by all variants
        variant = copy.copy(self)
        if options.get("step") is not None:
            variant.step = step_name(options["step"])
        if "retry" in options:
            variant.retry = _retry(options["retry"], self.name)
        if "key" in options:
            variant._key = _key_function(options["key"], self.name)
        variant.policy = _policy(
            StepPolicy(
                variant.retry.policy(),
                self.policy.timeouts,
                self.policy.exhausted,
                self.policy.topic,
            ),
            options,
            self.name,
        )
        return variant

    def __repr__(self) -> str:
        return f"<edow.task {self.name} ({self.fn.__module__}.{self.fn.__qualname__})>"

    def _plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[object, None, R]:
        made: Coroutine[object, None, R]
        if self.kind == "async":
            made = self.fn(*args, **kwargs)
        else:
            made = _in_thread(self.fn, args, kwargs)
        return made


async def _in_thread(fn: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    import asyncio  # a third of what `import edow` costs; who awaits has it

    return await asyncio.to_thread(fn, *args, **kwargs)


class TaskDecorator(Protocol):
    """What `@edow.task(...)` with options returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Task[P, R]: ...
@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(**options: Unpack[TaskOptions]) -> TaskDecorator: ...
def task(fn: Callable[..., Any] | None = None, /, **options: Unpack[TaskOptions]) -> Any:
    """Make a function a task: `@edow.task` or `@edow.task(retry=..., timeout="30s", ...)`.

    `async def` runs on the worker's event loop, `def` in a thread, `def` with `cpu=True` in a process. Options:
    `name` (else the function's), `retry` (a Retry or a number of attempts), `timeout` (each attempt; "30s" if not
    given, None for no limit), `schedule_to_start`, `schedule_to_close`, `heartbeat`, `topic`, `exhausted` ("raise" in
    the workflow, or "park" until somebody redrives or discards the dead letter), `key` (partition key: a text, or a
    function of the arguments), `raises` (exception classes that come back as themselves).
    """
    _refuse_unknown(options, TaskOptions.__annotations__, "edow.task()")
    if fn is not None:
        return Task(fn, options)
    return lambda function: Task(function, options)


DEFAULT_TIMEOUTS = Timeouts(start_to_close=30.0)


def _policy(base: StepPolicy, options: TaskOptions | CallOptions, name: str) -> StepPolicy:
    exhausted = options.get("exhausted", base.exhausted)
    if exhausted not in ("raise", "park"):
        raise InvalidInput(f'task {name}: exhausted={exhausted!r}: give "raise" or "park"')
    topic = options.get("topic", base.topic)
    return StepPolicy(
        retry=base.retry,
        timeouts=_timeouts(base.timeouts, options),
        exhausted=exhausted,
        topic=definition_name(topic, "topic"),
    )


def _timeouts(base: Timeouts, options: TaskOptions | CallOptions) -> Timeouts:
    def limit(option: str, value: object, otherwise: float | None) -> float | None:
        return optional_seconds(value, option) if option in options else otherwise  # type: ignore[arg-type]

    return Timeouts(
        schedule_to_start=limit("schedule_to_start", options.get("schedule_to_start"), base.schedule_to_start),
        start_to_close=limit("timeout", options.get("timeout"), base.start_to_close),
        schedule_to_close=limit("schedule_to_close", options.get("schedule_to_close"), base.schedule_to_close),
        heartbeat=limit("heartbeat", options.get("heartbeat"), base.heartbeat),
    )


def _checked_function(fn: object) -> Callable[..., Any]:
    if not callable(fn) or isinstance(fn, type | Task):
        raise InvalidInput(f"{fn!r} cannot be a task: decorate a function")
    if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
        raise InvalidInput(f"{fn!r} cannot be a task: it yields; return one value")
    return fn


def _kind(fn: object, cpu: bool, name: str) -> Kind:
    if not inspect.iscoroutinefunction(fn):
        return "process" if cpu else "thread"
    if cpu:
        raise InvalidInput(f"task {name}: cpu=True runs it in a process; use `def` rather than `async def`")
    return "async"


def _retry(value: object, name: str) -> Retry:
    if isinstance(value, Retry):
        return value
    if isinstance(value, int):
        return Retry(attempts=value)
    raise InvalidInput(f"task {name}: retry={value!r}: give a number of attempts or edow.Retry(...)")


def _exception_classes(kinds: object, name: str) -> Classes:
    listed = kinds if isinstance(kinds, tuple) else (kinds,)
    return tuple(exception_class(kind, f"task {name}: raises") for kind in listed)


def _key_function(key: object, name: str) -> Callable[..., str | None] | None:
    if key is None or callable(key):
        return key
    if isinstance(key, str):
        return lambda *args, **kwargs: key
    raise InvalidInput(f"task {name}: key={key!r}: give a text, or a function of the arguments")


def _checked_key(key: object, name: str) -> str | None:
    """What an author's function of the arguments has given, which no type checker may have seen."""
    if key is None or (isinstance(key, str) and key.isascii()):
        return key
    if not isinstance(key, str):
        raise InvalidInput(f"task {name}: its key is {key!r:.80}, of type {type(key).__name__}: give a text, or None")
    try:
        key.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"task {name}: its key {key!r:.80} has no UTF-8 form: remove lone surrogates") from None
    return key


def _refuse_unknown(options: object, known: object, what: str) -> None:
    unknown = set(options) - set(known)  # type: ignore[call-overload]
    if unknown:
        raise InvalidInput(
            f"{what} has no option {sorted(unknown)[0]!r}; it takes {', '.join(sorted(known))}"  # type: ignore[call-overload]
        )
