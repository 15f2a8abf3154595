"""Exceptions to recorded failures and back. A worker makes the `Failure`, the engine raises it again in the workflow.

Promises that a class the task has declared (`raises=`, `give_up_on=`) comes back as itself; never loads code by name.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from edow import errors
from edow.model.failure import Failure
from edow.workflow.codec import encoder

STACK_BYTES = 16 * 1024
ARGS_BYTES = 16 * 1024
TIMEOUTS = frozenset({"schedule_to_start", "start_to_close", "schedule_to_close", "heartbeat"})
DECLINED = "declined"
"""Failure.kind of an exception that the task declared as an answer rather than an accident (`give_up_on`)."""

Classes = tuple[type[BaseException], ...]
E = TypeVar("E", bound=BaseException)

_decode_args = msgspec.json.Decoder(list[object]).decode


def type_name(kind: type) -> str:
    """As in `Failure.type` and `RetryPolicy.give_up_on`: "module.QualName", built-ins without module."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def gives_up(error: BaseException, classes: Classes) -> bool:
    """Does the task regard this exception (or one of its bases) as final?"""
    return isinstance(error, classes)


def failure_of(error: BaseException, *, give_up_on: Classes = ()) -> Failure:
    """What a worker reports of an exception. `give_up_on` are the task's classes (`Task.give_up_on`)."""
    final = gives_up(error, give_up_on)
    return Failure(
        type=type_name(type(error)),
        message=_message(error),
        kind=DECLINED if final else "error",
        stack=_stack(error),
        args=_encoded_args(error),
        retryable=not final and not isinstance(error, errors.InvalidInput),
    )


def exception_of(failure: Failure, *, what: str, step: str, declared: Classes = ()) -> BaseException:
    """What the workflow gets to see of a step's failure; `what` names the task."""
    text = f"{what}: {failure.type}: {failure.message}" if failure.type else f"{what}: {failure.message}"
    failed = _task_error(failure)(text, type=failure.type, stack=failure.stack, step=step)
    found = _declared_class(failure, declared)
    if found is None:
        return failed
    original = _rebuilt(found, failure)
    original.__cause__ = failed
    return original


def child_exception_of(failure: Failure, *, what: str, step: str) -> errors.WorkflowFailed:
    """What the parent gets to see of a child that did not complete."""
    kinds = {"cancelled": errors.WorkflowCancelled, "terminated": errors.WorkflowTerminated}
    made = kinds.get(failure.kind, errors.WorkflowFailed)
    text = f"{what}: {failure.type}: {failure.message}"
    return made(text, type=failure.type, stack=failure.stack, step=step)


def _task_error(failure: Failure) -> type[errors.TaskFailed]:
    if failure.kind in TIMEOUTS:
        return errors.TaskTimedOut
    return errors.TaskDiscarded if failure.kind == "discarded" else errors.TaskFailed


def _declared_class(failure: Failure, declared: Classes) -> type[BaseException] | None:
    if failure.kind == "discarded":
        return None
    for kind in _with_subclasses(declared):
        if type_name(kind) == failure.type:
            return kind
    return None


def _with_subclasses(classes: Iterable[type[E]]) -> Iterator[type[E]]:
    for kind in classes:
        yield kind
        yield from _with_subclasses(kind.__subclasses__())


def _rebuilt(kind: type[BaseException], failure: Failure) -> BaseException:
    args = _decode_args(failure.args) if failure.args is not None else [failure.message]
    for candidate in (args, [failure.message]):
        try:
            return kind(*candidate)
        except Exception:  # an author's constructor may refuse in any way; the next form is tried
            continue
    bare = kind.__new__(kind)
    bare.args = (failure.message,)
    return bare


def _message(error: BaseException) -> str:
    try:
        return _speakable(str(error))
    except Exception as second:  # the author's __str__ is broken; the type still tells something
        return f"<str() of it raised {type(second).__name__}>"


def _speakable(text: str) -> str:
    """Lone surrogates, as in the names of undecodable files, have no place in JSON."""
    return text.encode("utf-8", "backslashreplace").decode()


def _stack(error: BaseException) -> str:
    try:
        text = _speakable("".join(traceback.format_exception(error)))
    except Exception as second:  # an exception may be made so that it cannot be told, and must be reported all the same
        return f"<its traceback cannot be told: {type(second).__name__}>"
    return text if len(text) <= STACK_BYTES else "...\n" + text[-STACK_BYTES:]


def _encoded_args(error: BaseException) -> msgspec.Raw | None:
    try:
        args = list(error.args)
        data = encoder.encode(args)
    except Exception:  # whatever the author's values, or the author's `args`, may raise
        return None
    return msgspec.Raw(data) if args and len(data) <= ARGS_BYTES else None
