"""What workflow code calls instead of clocks, random numbers and the outside world.

Promises that inside a workflow every one of them answers the same in a replay; outside, those with a plain meaning
have it (so workflows can be unit-tested) and the others raise with the remedy.
"""

from __future__ import annotations

import random as _random
import uuid as _uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NoReturn, TypeVar, cast, get_type_hints

import msgspec

from edow.errors import InvalidInput
from edow.workflow import codec
from edow.workflow.duration import Duration, optional_seconds, seconds
from edow.workflow.naming import MAX_CHILD_ID, execution_id, step_name
from edow.workflow.runtime import Info, current, inside

T = TypeVar("T")

Scalar = str | int | float | bool | None

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_ATTRIBUTES = 50
MAX_ATTRIBUTE_BYTES = 1024


async def sleep(duration: Duration, *, step: str | None = None) -> None:
    """A durable timer, of milliseconds or months. Outside a workflow: asyncio.sleep."""
    runtime = current.get()
    delay = seconds(duration, "sleep")
    if runtime is None:
        import asyncio  # a third of what `import edow` costs; who awaits has it

        await asyncio.sleep(delay)
    else:
        await runtime.sleep(delay, _optional_step(step))


def now() -> datetime:
    """Logical time: that of the last thing which reached the workflow. Aware, UTC."""
    runtime = current.get()
    if runtime is None:
        return datetime.now(UTC)
    return EPOCH + timedelta(microseconds=runtime.now())


def random() -> _random.Random:
    """A generator of its own for each call, seeded so that a replay draws the same numbers."""
    runtime = current.get()
    return _random.Random() if runtime is None else _random.Random(runtime.unique("random"))


def uuid() -> _uuid.UUID:
    """Unique, and the same in a replay."""
    runtime = current.get()
    if runtime is None:
        return _uuid.uuid4()
    digest = blake2b(runtime.unique("uuid").encode(), digest_size=16).digest()
    return _uuid.UUID(bytes=digest, version=4)


async def side_effect(fn: Callable[[], T], *, step: str | None = None) -> T:
    """Run a quick function here and now, and remember what it returned or raised; a replay does not run it again.

    It may run twice if a crash comes in between: for anything with an effect outside, use a task.
    """
    runtime = current.get()
    if runtime is None:
        return fn()
    name = getattr(fn, "__name__", "side_effect").strip("<>")
    kind = _returned_type(fn)
    what = f"the value of side_effect {name}"
    raw = await runtime.side_effect(lambda: codec.encode(fn(), what), name, _optional_step(step))
    return codec.decode(raw, kind, what)


async def wait_signal(
    name: str,
    type: type[T],
    timeout: Duration | None = None,
    *,
    step: str | None = None,
) -> T:
    """The next signal of this name; those that came before the wait were kept, in order. Raises TimeoutError."""
    runtime = inside("wait_signal", "in a unit test, hand the value over as a parameter")
    limit = optional_seconds(timeout, "wait_signal(timeout)")
    raw = await runtime.wait_signal(name, limit, _optional_step(step))
    return codec.decode(raw, type, f"signal {name!r}")


def signal(execution: str, name: str, payload: object = None, *, step: str | None = None) -> None:
    """Send a signal to another execution."""
    runtime = inside("signal", "from elsewhere, use edow.Client.signal")
    raw = codec.encode(payload, f"the payload of signal {name!r}")
    if not isinstance(name, str):
        raise InvalidInput(f"the name of a signal is a text, not {name!r:.80}")
    runtime.send_signal(execution_id(execution, MAX_CHILD_ID), name, raw, _optional_step(step))


def progress(value: object) -> None:
    """Show how far the workflow has come: any JSON value. Outside a workflow: nothing."""
    runtime = current.get()
    raw = codec.encode(value, "progress")
    if runtime is not None:
        runtime.set_progress(raw)


def attributes(**values: Scalar) -> None:
    """Set attributes by which executions can be found; None removes one. Outside a workflow: checked, then nothing."""
    _check_attributes(values)
    runtime = current.get()
    if runtime is not None:
        runtime.set_attributes(values)


def info() -> Info:
    """Execution id, run, logical time and history length of the workflow that calls."""
    return inside("info", "inside a task, use edow.context()").info()


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run and begin the next with these arguments and an empty history."""
    runtime = inside("continue_as_new", "in a unit test, catch this error")
    raise runtime.continue_as_new(args, kwargs)


def _optional_step(step: str | None) -> str | None:
    return None if step is None else step_name(step)


def _returned_type(fn: Callable[[], T]) -> type[T]:
    found = getattr(fn, "__annotations__", {}).get("return", Any)
    if isinstance(found, str):
        try:
            found = get_type_hints(fn)["return"]
        except NameError:
            found = Any
    return cast("type[T]", type(None) if found is None else found)


def _check_attributes(values: Mapping[str, object]) -> None:
    if len(values) > MAX_ATTRIBUTES:
        raise InvalidInput(f"{len(values)} attributes given; at most {MAX_ATTRIBUTES} are kept")
    for name, value in values.items():
        if not isinstance(value, str | int | float | bool | None):
            raise InvalidInput(f"attribute {name!r} is a {type(value).__qualname__}: give a text, number, bool or None")
        if len(msgspec.json.encode(value)) > MAX_ATTRIBUTE_BYTES:
            raise InvalidInput(f"attribute {name!r} is longer than {MAX_ATTRIBUTE_BYTES} bytes")
