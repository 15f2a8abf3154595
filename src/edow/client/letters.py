"""Dead letters: redrive (run the step again, perhaps with other arguments) and discard (answer it with an error).

Arguments are checked against the task's signature before anything is sent. A letter named explicitly that cannot be
acted on is an error; a filter takes what it finds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec

from edow.client.audit import Value
from edow.client.link import Link
from edow.client.resending import send_again
from edow.client.selection import Selection, parts, select_letters, whole
from edow.client.starting import parameters
from edow.errors import EdowError, InvalidInput, NotFound, RecordChanged, WrongState
from edow.model import inbox
from edow.store.contract import Answer, CommandRequest, DeadLetter, DeadLetterFilter, Request
from edow.trigger import given_up
from edow.trigger.again import Anew
from edow.trigger.given_up import sending_in
from edow.trigger.outgoing import is_endpoint
from edow.trigger.poison import message_in
from edow.workflow.registry import Registry

Args = Mapping[str, object] | Callable[[DeadLetter], Mapping[str, object]]
"""New arguments by parameter name, or a function that makes them from the letter."""

log = logging.getLogger("edow.client")

TOGETHER = 500  # acted on in one transaction, where nothing large belongs to it


class Letters:
    """Acts on dead letters: through the inboxes of their executions, or by triggers and endpoints."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def redrive(self, which: Selection, args: Args | None, registry: Registry | None, unchecked: bool) -> int:
        """Run the steps again; how many were accepted."""
        letters = await select_letters(self._link, which)
        strict = not isinstance(which, DeadLetterFilter)
        outside = [each for each in letters if not each.execution]
        letters = [each for each in letters if each.execution]
        if strict:
            await self._check_outside(outside)
        if outside and args is not None and not letters:
            raise InvalidInput("messages of no execution have no arguments to change: redrive them as they are")
        told: dict[str, Value] = {"changed": args is not None, "unchecked": unchecked}
        if args is not None:
            new = partial(_new_args, args=args, registry=registry, unchecked=unchecked)
            return await self._redrive_with(letters, new, told, strict=strict)
        problems: list[EdowError] = []
        count = await self._again(outside, problems)
        for part in parts(letters, TOGETHER):
            commands = [_redrive(each, None) for each in part]
            count += await self._send("redrive", part, commands, told, strict=strict)
        if problems and not count:
            raise problems[0]
        return count

    async def discard(self, which: Selection, reason: str) -> int:
        """Answer the steps with TaskDiscarded; poison is closed. How many were accepted."""
        if not (reason := reason.strip()):
            raise InvalidInput("say why they are discarded; whoever reads their histories will ask")
        letters, count = await select_letters(self._link, which), 0
        strict = not isinstance(which, DeadLetterFilter)
        for ids in parts([each.id for each in letters if not each.execution], TOGETHER):
            count += await self._close(ids, reason)
        for part in parts([each for each in letters if each.execution], TOGETHER):
            commands = [_discard(each, reason) for each in part]
            count += await self._send("discard", part, commands, {"reason": reason}, strict=strict)
        return count

    async def _redrive_with(
        self,
        letters: Sequence[DeadLetter],
        new: Callable[[DeadLetter], msgspec.Raw],
        told: Mapping[str, Value],
        *,
        strict: bool,
    ) -> int:
        async for page in whole(self._link, letters):  # all of them before any is sent
            for each in page:
                new(each)
        count = 0
        async for page in whole(self._link, letters):
            commands = [_redrive(each, new(each)) for each in page]
            count += await self._send("redrive", page, commands, told, strict=strict)
        return count

    async def _check_outside(self, letters: Sequence[DeadLetter]) -> None:
        """Raises WrongState for poison."""
        async for page in whole(self._link, letters):
            poison = next((each for each in page if sending_in(each) is None and message_in(each) is None), None)
            if poison is not None:
                raise WrongState(
                    f"dead letter {poison.id!r} belongs to no execution and cannot be redriven; discard it"
                )

    async def _again(self, letters: Sequence[DeadLetter], problems: list[EdowError]) -> int:
        """Those of no execution: sent again, or applied by their triggers as they are now. What still cannot be stays,
        and its problem is told.
        """
        count = 0
        async for page in whole(self._link, letters):
            count += await self._send_again([each for each in page if sending_in(each) is not None], problems)
            count += await self._apply([each for each in page if message_in(each) is not None], problems)
        return count

    async def _apply(self, messages: Sequence[DeadLetter], problems: list[EdowError]) -> int:
        link, applied = self._link, 0
        anew = Anew(link.store, link.clock)
        for each in messages:
            told: dict[str, Value] = {"letters": 1, "source": each.source}
            try:
                await anew.apply(each, link.entries("dead_letter.redrive", each.id, told, link.clock()))
            except (InvalidInput, NotFound) as problem:
                problems.append(problem)
            except RecordChanged as problem:
                log.debug("dead letter %s was acted on by somebody else: %s", each.id, problem)
            else:
                applied += 1
        return applied

    async def _send_again(self, letters: Sequence[DeadLetter], problems: list[EdowError]) -> int:
        """Webhooks that were given up; those that somebody else acts on meanwhile are left out."""
        sources = {each.source for each in letters}
        there = {each for each in sources if await is_endpoint(self._link.store, each.removeprefix(given_up.SOURCE))}
        problems += [given_up.gone(each) for each in letters if each.source not in there]
        return await send_again(self._link, [each for each in letters if each.source in there], "dead_letter.redrive")

    async def _close(self, poison: Sequence[str], reason: str) -> int:
        told: dict[str, Value] = {"letters": len(poison), "reason": reason}
        link, now = self._link, self._link.clock()
        entries = link.entries("dead_letter.discard", _target(poison), told, now)
        return await link.store.dead_letters_close(poison, "discarded", reason, entries, now)

    async def _send(
        self,
        verb: str,
        letters: Sequence[DeadLetter],
        commands: Sequence[Request],
        told: Mapping[str, Value],
        *,
        strict: bool,
    ) -> int:
        if not commands:
            return 0
        if self._link.actor is None:
            answers = await self._link.submitter.submit(commands)
        else:
            told = {"letters": len(letters), **told}
            target = _target([each.id for each in letters])
            answers = await self._link.act(f"dead_letter.{verb}", target, told, commands)
        if strict:
            await self._check(letters, answers)
        return sum(answer.outcome == "accepted" for answer in answers)

    async def _check(self, letters: Sequence[DeadLetter], answers: Sequence[Answer]) -> None:
        for letter, answer in zip(letters, answers, strict=True):
            await self._link.check(letter.execution, answer)


def checked_args(letter: DeadLetter, body: msgspec.Raw | None, registry: Registry | None) -> None:
    """Raises SignatureMismatch for arguments that the task does not take, InvalidInput if its code is not here."""
    if body is not None:
        _checked(letter, body, registry)


def _redrive(letter: DeadLetter, args: msgspec.Raw | None) -> CommandRequest:
    command = inbox.Redrive(run=letter.run, step=letter.step, args=args)
    return CommandRequest(letter.execution, inbox.encode(command))


def _discard(letter: DeadLetter, reason: str) -> CommandRequest:
    command = inbox.Discard(run=letter.run, step=letter.step, reason=reason)
    return CommandRequest(letter.execution, inbox.encode(command))


def _target(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else ""


def _new_args(letter: DeadLetter, args: Args, registry: Registry | None, unchecked: bool) -> msgspec.Raw:
    values = dict(args(letter) if callable(args) else args)
    body = parameters(values, f"the new arguments of {letter.task!r}")
    if unchecked:
        return body
    return _checked(letter, body, registry)


def _checked(letter: DeadLetter, body: msgspec.Raw, registry: Registry | None) -> msgspec.Raw:
    """`body` itself, if the task's signature takes it. Raises SignatureMismatch."""
    task = registry.tasks.get(letter.task) if registry is not None else None
    if task is None:
        raise InvalidInput(
            f"the new arguments of {letter.task!r} cannot be checked, because its code is not loaded here; "
            "name its module, or pass them unchecked"
        )
    task.signature.check(body)
    return body
