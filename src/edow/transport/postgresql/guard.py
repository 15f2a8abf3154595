"""Trouble with the server while a transport opens."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from edow.errors import InvalidInput, StoreUnusable
from edow.transport.guard import guarded

Result = TypeVar("Result")


async def opened(work: Awaitable[Result]) -> Result:
    """The outcome as `guarded` has it; a server that refuses us is a URL to be corrected."""
    try:
        return await guarded(work)
    except StoreUnusable as problem:
        if problem.__cause__ is None:
            raise  # a schema or server that we cannot use, whatever the URL says
        raise InvalidInput(str(problem)) from problem
