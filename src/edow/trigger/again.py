"""A message that its trigger could not apply, applied anew: by the trigger as it is now, which somebody has mended.

It is applied in the transaction that closes the letter, so whoever dies on the way, it is done once. It has a claim, as
if the message had just come: delivered once more, it is known.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec

from edow.errors import InvalidInput, NotFound, Unavailable
from edow.store.contract import DeadLetter, Put, Store
from edow.transport.contract import Delivery
from edow.trigger.action import Applier, Beside
from edow.trigger.events import TRIGGERS, Compiled, Event, Trigger
from edow.trigger.gathering import Gatherer
from edow.trigger.given_up import gone, sending_in
from edow.trigger.outgoing import is_endpoint
from edow.trigger.poison import SOURCE, message_in, said
from edow.trigger.tally import Tally

T = TypeVar("T")


class Anew:
    """Of one store. What is wrong with a letter or its trigger is InvalidInput; NotFound if the trigger is no more."""

    def __init__(self, store: Store, clock: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._applier = Applier(store, clock)
        self._gatherer = Gatherer(store, clock, Tally(store, clock, "triggers", "redrive"))

    async def check(self, letter: DeadLetter) -> None:
        """Whether it could be applied now, or sent again; nothing is done."""
        if (sending := sending_in(letter)) is not None:
            if not await is_endpoint(self._store, sending.endpoint):
                raise gone(letter)
            return
        compiled, delivery = await self._found(letter)
        await self._guarded(letter, self._understand(compiled, delivery))

    async def apply(self, letter: DeadLetter, entries: Sequence[Put] = ()) -> str:
        """What became of it: an outcome, or filtered. `entries` are written with it. Raises Unavailable, too, and
        RecordChanged if somebody else has acted on the letter meanwhile.
        """
        compiled, delivery = await self._found(letter)
        beside = Beside(entries, letter.id)
        outcome = await self._guarded(letter, self._apply(compiled, delivery, beside))
        if outcome in ("filtered", "duplicate"):  # there was nothing to do
            await self._store.records_put(entries, self._clock(), letters=beside.closed(outcome))
        return outcome

    async def _apply(self, compiled: Compiled, delivery: Delivery, beside: Beside) -> str:
        understood = await self._understand(compiled, delivery)
        if understood is None:
            return "filtered"
        event, key = understood
        if compiled.trigger.gathers:
            [outcome] = await self._gatherer.add(compiled, [event], key, beside)
            return outcome
        intent = compiled.plan.intent(event.context, key, event.trace)
        return (await self._applier.apply(intent, compiled.claim(event, self._clock()), beside)).outcome

    async def _understand(self, compiled: Compiled, delivery: Delivery) -> tuple[Event, str] | None:
        """The event, and the id of its execution; None: the trigger filters it out."""
        event = compiled.event(delivery)
        if event is None:
            return None
        key = compiled.key(event)
        if not compiled.trigger.gathers:
            compiled.plan.intent(event.context, key, event.trace)
        return event, key

    async def _found(self, letter: DeadLetter) -> tuple[Compiled, Delivery]:
        delivery = message_in(letter)
        if delivery is None:
            raise InvalidInput(f"dead letter {letter.id!r} belongs to no execution and can only be discarded")
        name = letter.source.removeprefix(SOURCE)
        [record] = await self._store.records_get(TRIGGERS, [name])
        if record is None:
            raise NotFound(f"there is no trigger {name!r} any more: create it again, or discard {letter.id!r}")
        return Compiled(msgspec.json.decode(record.body, type=Trigger)), delivery

    async def _guarded(self, letter: DeadLetter, work: Awaitable[T]) -> T:
        try:
            return await work
        except Unavailable:
            raise
        except Exception as problem:  # as when it came: whatever it is, it is this message's, and no bug of the desk
            raise InvalidInput(f"dead letter {letter.id!r}: its trigger cannot apply it: {said(problem)}") from problem
