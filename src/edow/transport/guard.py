"""Trouble, said in the words of a transport: with a database, and where it comes from."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TypeVar

from edow.errors import StoreUnavailable, TransportUnavailable

Result = TypeVar("Result")


async def guarded(work: Awaitable[Result]) -> Result:
    """The outcome; StoreUnavailable becomes TransportUnavailable."""
    try:
        return await work
    except StoreUnavailable as problem:
        raise TransportUnavailable(str(problem)) from problem


def causes(problem: BaseException | None) -> Iterator[BaseException]:
    """The error itself and what it comes from, once each: one that was raised twice may be among its own causes."""
    seen: list[BaseException] = []
    while problem is not None and problem not in seen:
        yield problem
        seen.append(problem)
        problem = problem.__cause__ or problem.__context__
