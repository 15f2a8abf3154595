"""Trees of calls, as plain data: what one execution is to do. They are the input of the workflow and of the simulation.

Every leaf counts under a key of its own, so that a difference at the end names the call which went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

Waiting = Literal["timer", "signal", "task", "child"]


class Shape(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Base of all nodes."""


class Add(Shape, frozen=True):
    """A task adds `amount`. Its first attempts fail: `before` of them before they add, then `after` after they did."""

    key: str
    amount: int = 1
    before: int = 0
    after: int = 0
    thread: bool = False


class Doom(Shape, frozen=True):
    """A task that fails for good, and with it whatever it is part of."""

    key: str


class Sleep(Shape, frozen=True):
    milliseconds: int


class Signal(Shape, frozen=True):
    """Wait for a signal and add what it brings."""

    key: str
    amount: int


class Sequence(Shape, frozen=True):
    parts: list[Node]


class Parallel(Shape, frozen=True):
    """All parts run to their end; then it fails if one of them did."""

    parts: list[Node]


class Attempt(Shape, frozen=True):
    """Whether its part fails does not matter."""

    part: Node


class Saga(Shape, frozen=True):
    """One after the other. Each that was done has a compensation: it adds to `key`~number should a later one fail."""

    key: str
    parts: list[Node]


class Child(Shape, frozen=True):
    """A child execution, which its parent sends the signals that it waits for."""

    key: str
    part: Node


class Loop(Shape, frozen=True):
    """A child execution that continues as new until it has gone round so many times."""

    key: str
    rounds: int


class Late(Shape, frozen=True):
    """A wait that times out, after which it adds 1."""

    key: str
    waiting: Literal["timer", "signal", "task"]


class Cancelled(Shape, frozen=True):
    """A saga that, with its parts done, waits for what never comes, and is cancelled there by its own workflow."""

    key: str
    parts: list[Node]
    waiting: Waiting


Leaf = Add | Doom | Sleep | Signal | Loop | Late
Branch = Sequence | Parallel | Attempt | Saga | Child | Cancelled
Node = Add | Doom | Sleep | Signal | Sequence | Parallel | Attempt | Saga | Child | Loop | Late | Cancelled


class Plan(msgspec.Struct, frozen=True):
    """One execution. `cancelled` tells that its client cancels it once it waits; its root is then a `Cancelled`."""

    id: str
    root: Node
    cancelled: bool = False


def signals_of(node: Node) -> Iterator[Signal]:
    """Those that the execution itself waits for, not its children."""
    match node:
        case Signal():
            yield node
        case Sequence() | Parallel() | Saga() | Cancelled():
            for part in node.parts:
                yield from signals_of(part)
        case Attempt():
            yield from signals_of(node.part)


def undo_key(key: str, number: int) -> str:
    """Under which the compensation of a saga's part counts."""
    return f"{key}~{number}"
