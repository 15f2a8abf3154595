"""Starting many executions at once: bounded batches, one being stored while the next is being prepared.

It promises to say, when it fails halfway, how many executions had been accepted; those go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from edow.client.link import Link
from edow.client.submitter import BATCH, BATCH_BYTES, size_of
from edow.errors import AlreadyExists, CallerError
from edow.model.portions import portions
from edow.store.contract import Answer, StartRequest


async def start_in_batches(link: Link, requests: Iterable[StartRequest]) -> list[tuple[str, int]]:
    """Submit all of them; (execution id, run) of each, in order. Raises AlreadyExists after all have been tried."""
    done: list[tuple[str, int]] = []
    taken: list[str] = []
    sending: tuple[list[StartRequest], asyncio.Future[list[Answer]]] | None = None
    try:
        for batch in portions(requests, size_of, BATCH, BATCH_BYTES):
            future = link.submitter.submit(batch)
            if sending is not None:
                _note(sending[0], await sending[1], done, taken)
            sending = batch, future
    except CallerError as problem:
        if sending is not None:
            _note(sending[0], await sending[1], done, taken)
        problem.add_note(f"{len(done)} executions before it have been started and go on")
        raise
    if sending is not None:
        _note(sending[0], await sending[1], done, taken)
    if taken:
        raise _already(taken, len(done))
    return done


def _note(batch: list[StartRequest], answers: list[Answer], done: list[tuple[str, int]], taken: list[str]) -> None:
    for request, answer in zip(batch, answers, strict=True):
        if answer.outcome == "exists":
            taken.append(request.execution.id)
        else:
            done.append((request.execution.id, answer.run))


def _already(taken: list[str], started: int) -> AlreadyExists:
    names = ", ".join(map(repr, taken[:3])) + (", …" if len(taken) > 3 else "")
    return AlreadyExists(
        f"{len(taken)} executions exist already ({names}); the other {started} have been started; "
        "use if_exists='attach' to get handles on all of them"
    )
