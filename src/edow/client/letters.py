"""Dead letters: redrive (run the step again, perhaps with other arguments) and discard (answer it with an error).

Arguments are checked against the task's signature before anything is sent. A letter named explicitly that cannot be
acted on is an error; a filter takes what it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from edow.client.audit import Value
from edow.client.link import Link
from edow.client.resending import send_again
from edow.client.starting import parameters
from edow.errors import EdowError, InvalidInput, NotFound, WrongState
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

Selection = DeadLetterFilter | Sequence[str] | str
"""Letters by filter, by ids, or one by id."""

LIMIT = 10_000  # acted on by one command or request,
CHUNK = 100  # in transactions of so many

_WHY_NOT = {
    "raised": "the execution has already received the exception and gone on; start it again if it should be done over",
    "redriven": "it has been redriven already",
    "discarded": "it has been discarded already",
}


class Letters:
    """Acts on dead letters through the inboxes of their executions."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def redrive(self, which: Selection, args: Args | None, registry: Registry | None, unchecked: bool) -> int:
        """Run the steps again; how many were accepted."""
        letters = await select_letters(self._link, which)
        webhooks = [each for each in letters if sending_in(each) is not None]
        messages = [each for each in letters if message_in(each) is not None]
        outside = {each.id for each in (*webhooks, *messages)}
        poison = next((each for each in letters if not each.execution and each.id not in outside), None)
        if poison is not None and not isinstance(which, DeadLetterFilter):
            raise WrongState(f"dead letter {poison.id!r} belongs to no execution and cannot be redriven; discard it")
        letters = [each for each in letters if each.execution]
        if outside and args is not None and not letters:
            raise InvalidInput("messages of no execution have no arguments to change: redrive them as they are")
        applied = await self._send_again(webhooks) + await self._apply(messages) if args is None else 0
        bodies = [_new_args(each, args, registry, unchecked) for each in letters]
        commands: list[Request] = [
            CommandRequest(each.execution, inbox.encode(inbox.Redrive(run=each.run, step=each.step, args=body)))
            for each, body in zip(letters, bodies, strict=True)
        ]
        told: dict[str, Value] = {"changed": args is not None, "unchecked": unchecked}
        strict = not isinstance(which, DeadLetterFilter)
        return applied + await self._send("redrive", letters, commands, told, strict=strict)

    async def _apply(self, messages: Sequence[DeadLetter]) -> int:
        """By their triggers as they are now. What still cannot be applied stays; raises what is wrong if none could."""
        anew, applied, problems = Anew(self._link.store, self._link.clock), 0, list[EdowError]()
        for each in messages:
            try:
                outcome = await anew.apply(each)
            except (InvalidInput, NotFound) as problem:
                problems.append(problem)
            else:
                applied += await self._close([each.id], "redriven", outcome)
        if problems and not applied:
            raise problems[0]
        return applied

    async def _send_again(self, letters: Sequence[DeadLetter]) -> int:
        """Webhooks that were given up: many in one transaction; those that somebody else acts on meanwhile are left
        out. Raises NotFound if the endpoints of all of them are gone.
        """
        sources = {each.source for each in letters}
        there = {each for each in sources if await is_endpoint(self._link.store, each.removeprefix(given_up.SOURCE))}
        if letters and not there:
            raise given_up.gone(letters[0])
        known = [each for each in letters if each.source in there]
        chunks = [known[at : at + CHUNK] for at in range(0, len(known), CHUNK)]
        return sum([await send_again(self._link, each, "dead_letter.redrive") for each in chunks])

    async def discard(self, which: Selection, reason: str) -> int:
        """Answer the steps with TaskDiscarded; poison is closed. How many were accepted."""
        if not (reason := reason.strip()):
            raise InvalidInput("say why they are discarded; whoever reads their histories will ask")
        letters = await select_letters(self._link, which)
        poison = [each.id for each in letters if not each.execution]
        letters = [each for each in letters if each.execution]
        commands: list[Request] = [
            CommandRequest(each.execution, inbox.encode(inbox.Discard(run=each.run, step=each.step, reason=reason)))
            for each in letters
        ]
        told: dict[str, Value] = {"reason": reason}
        strict = not isinstance(which, DeadLetterFilter)
        return await self._close(poison, "discarded", reason) + await self._send(
            "discard", letters, commands, told, strict=strict
        )

    async def _close(self, poison: Sequence[str], state: Literal["redriven", "discarded"], reason: str) -> int:
        if not poison:
            return 0
        told: dict[str, Value] = {"letters": len(poison), "reason": reason}
        link, now = self._link, self._link.clock()
        action = "dead_letter.redrive" if state == "redriven" else "dead_letter.discard"
        entries = link.entries(action, _target(poison), told, now)
        return await link.store.dead_letters_close(poison, state, reason, entries, now)

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


async def select_letters(link: Link, which: Selection) -> list[DeadLetter]:
    """Those that wait for somebody to act. Raises NotFound and WrongState for one that was named and does not."""
    if isinstance(which, DeadLetterFilter):
        return await link.store.dead_letters_list(msgspec.structs.replace(which, state="parked"))
    ids = [which] if isinstance(which, str) else list(dict.fromkeys(which))
    where = DeadLetterFilter(ids=ids, state=None, limit=len(ids))
    found = {each.id: each for each in await link.store.dead_letters_list(where)} if ids else {}
    return [_actionable(name, found.get(name)) for name in ids]


def checked_args(letter: DeadLetter, body: msgspec.Raw | None, registry: Registry | None) -> None:
    """Raises SignatureMismatch for arguments that the task does not take, InvalidInput if its code is not here."""
    if body is not None:
        _checked(letter, body, registry)


def _target(ids: Sequence[str]) -> str:
    return ids[0] if len(ids) == 1 else ""


def _actionable(name: str, letter: DeadLetter | None) -> DeadLetter:
    if letter is None:
        raise NotFound(f"there is no dead letter {name!r} in this store; `edow dlq list` shows what there is")
    if letter.state != "parked":
        raise WrongState(f"dead letter {name!r} is {letter.state}: {_WHY_NOT[letter.state]}")
    return letter


def _new_args(letter: DeadLetter, args: Args | None, registry: Registry | None, unchecked: bool) -> msgspec.Raw | None:
    if args is None:
        return None
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
