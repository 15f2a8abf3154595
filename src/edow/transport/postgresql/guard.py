"""Trouble with the database, said in the words of a transport."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from edow.errors import InvalidInput, StoreUnavailable, StoreUnusable, TransportUnavailable

Result = TypeVar("Result")


async def guarded(work: Awaitable[Result]) -> Result:
    """The outcome; StoreUnavailable becomes TransportUnavailable."""
    try:
        return await work
    except StoreUnavailable as problem:
        raise TransportUnavailable(str(problem)) from problem


async def opened(work: Awaitable[Result]) -> Result:
    """The same while opening: a server that refuses us is a URL to be corrected."""
    try:
        return await guarded(work)
    except StoreUnusable as problem:
        if problem.__cause__ is None:
            raise  # a schema or server that we cannot use, whatever the URL says
        raise InvalidInput(str(problem)) from problem
