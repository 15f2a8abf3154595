"""Does what a tree says, durably. Orchestrators and workers load this module.

Whatever is written here is what users write: gather, create_task, cancel, timeout, sagas, children, signals.
"""

from __future__ import annotations

import asyncio
from typing import Literal

import edow
from edow.verify.counters import add_once
from edow.verify.tree import (
    Add,
    Attempt,
    Branch,
    Cancelled,
    Child,
    Doom,
    Late,
    Leaf,
    Loop,
    Node,
    Parallel,
    Saga,
    Sequence,
    Signal,
    Sleep,
    Waiting,
    signals_of,
    undo_key,
)

WAITS = "waits"  # what an execution reports as progress when it is ready to be cancelled


class Doomed(Exception):
    """An answer: trying again would not help."""


class Hitch(Exception):
    """Goes away when tried again."""


RETRY = edow.Retry(attempts=20, initial="5ms", maximum="50ms", give_up_on=Doomed)


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@edow.task(retry=RETRY)
async def add(key: str, amount: int = 1, before: int = 0, after: int = 0) -> None:
    add_with_hitches(key, amount, before, after)


@edow.task(retry=RETRY)
def add_in_thread(key: str, amount: int, before: int, after: int) -> None:
    add_with_hitches(key, amount, before, after)


@edow.task(retry=RETRY)
async def doom(key: str) -> None:
    raise Doomed(key)


@edow.task(retry=RETRY, timeout=None)
async def linger() -> None:
    """Waits until it is cancelled."""
    await asyncio.Event().wait()


def add_with_hitches(key: str, amount: int, before: int, after: int) -> None:
    attempt = edow.context().attempt
    if attempt <= before:
        raise Hitch(f"attempt {attempt} of {key}, before it was added")
    add_once(key, amount)
    if attempt <= before + after:
        raise Hitch(f"attempt {attempt} of {key}, after it was added")


# ── workflows ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@edow.workflow
async def grow(node: Node) -> None:
    await play(node)


@edow.workflow
async def grow_and_wait(node: Cancelled) -> None:
    """For executions that their client cancels."""
    ready = asyncio.Event()
    waiting = asyncio.create_task(wait_in_saga(node, ready))
    try:
        await ready.wait()
        edow.progress(WAITS)
        await waiting
    finally:
        waiting.cancel()
        await asyncio.wait({waiting})


@edow.workflow
async def go_round(key: str, rounds: int) -> None:
    await add(key)
    if rounds > 1:
        edow.continue_as_new(key, rounds - 1)


@edow.workflow
async def hang(key: str, parent: str) -> None:
    """A child that tells its parent when it may be cancelled."""
    async with edow.saga() as saga:
        saga.compensate(add, key)
        edow.signal(parent, key, True)
        await edow.sleep("30d")


# ── parts of workflows ────────────────────────────────────────────────────────────────────────────────────────────────


async def play(node: Node) -> None:
    if isinstance(node, Leaf):
        await play_leaf(node)
    else:
        await play_branch(node)


async def play_leaf(node: Leaf) -> None:
    match node:
        case Add(thread=True):
            await add_in_thread(node.key, node.amount, node.before, node.after)
        case Add():
            await add(node.key, node.amount, node.before, node.after)
        case Doom():
            await doom(node.key)
        case Sleep():
            await edow.sleep(node.milliseconds / 1000)
        case Signal():
            await add(node.key, await edow.wait_signal(node.key, int))
        case Loop():
            await go_round.with_options(id=node.key)(node.key, node.rounds)
        case Late():
            await be_late(node.waiting)
            await add(node.key)


async def play_branch(node: Branch) -> None:
    match node:
        case Sequence():
            for part in node.parts:
                await play(part)
        case Parallel():
            await play_together(node.parts)
        case Attempt():
            try:
                await play(node.part)
            except (Doomed, edow.WorkflowFailed):
                pass
        case Saga():
            async with edow.saga() as saga:
                for number, part in enumerate(node.parts):
                    await play(part)
                    saga.compensate(add, undo_key(node.key, number))
        case Child():
            await play_child(node)
        case Cancelled():
            await be_cancelled(node)


async def play_together(parts: list[Node]) -> None:
    outcomes = await asyncio.gather(*map(play, parts), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def play_child(node: Child) -> None:
    child = asyncio.create_task(grow.with_options(id=node.key)(node.part))
    await asyncio.sleep(0)  # from here on the child exists
    for signal in signals_of(node.part):
        edow.signal(node.key, signal.key, signal.amount)
    await child


async def be_late(waiting: Literal["timer", "signal", "task"]) -> None:
    try:
        match waiting:
            case "timer":
                async with asyncio.timeout(0.02):
                    await edow.sleep("30d")
            case "signal":
                await edow.wait_signal("never", bool, timeout="20ms")
            case "task":
                await asyncio.wait_for(linger(), 0.02)
    except TimeoutError:
        return


async def be_cancelled(node: Cancelled) -> None:
    ready = asyncio.Event()
    waiting = asyncio.create_task(wait_in_saga(node, ready))
    await ready.wait()
    waiting.cancel()
    await asyncio.wait({waiting})


async def wait_in_saga(node: Cancelled, ready: asyncio.Event) -> None:
    async with edow.saga() as saga:
        for number, part in enumerate(node.parts):
            await play(part)
            saga.compensate(add, undo_key(node.key, number))
        await wait_for_ever(node.waiting, node.key, ready)


async def wait_for_ever(waiting: Waiting, key: str, ready: asyncio.Event) -> None:
    match waiting:
        case "timer":
            ready.set()
            await edow.sleep("30d")
        case "signal":
            ready.set()
            await edow.wait_signal("never", bool)
        case "task":
            ready.set()
            await linger()
        case "child":
            child = asyncio.create_task(hang.with_options(id=key)(key, edow.info().execution))
            await edow.wait_signal(key, bool)
            ready.set()
            await child
