"""Trouble with a database, said in the words of a transport."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from edow.errors import StoreUnavailable, TransportUnavailable

Result = TypeVar("Result")


async def guarded(work: Awaitable[Result]) -> Result:
    """The outcome; StoreUnavailable becomes TransportUnavailable."""
    try:
        return await work
    except StoreUnavailable as problem:
        raise TransportUnavailable(str(problem)) from problem
