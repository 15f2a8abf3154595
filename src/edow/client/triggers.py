"""Event triggers as operators make them and see them: flat, with durations as people write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from edow.address import Address
from edow.client.definitions import Definitions
from edow.client.hooks import ActionSpec, ActionView, of_action
from edow.client.link import Link
from edow.errors import InvalidInput
from edow.trigger import references
from edow.trigger.events import OUTCOMES, TRIGGERS, Trigger
from edow.trigger.tally import Recent, latest, shown, totals
from edow.workflow.duration import seconds


class TriggerSpec(ActionSpec, kw_only=True, frozen=True):
    """A trigger to be made. `transport`: a URL, or env:NAME of one; "": the system's own."""

    name: str
    topic: str
    group: str = ""
    transport: str = ""
    filter: str = ""
    event_id: str = ""
    remember: str = "1d"
    debounce: str = ""
    max_wait: str = ""
    batch: int = 0
    batch_wait: str = "1m"

    def trigger(self) -> Trigger:
        """Raises InvalidInput."""
        if self.transport and not references.is_elsewhere(self.transport):
            Address(self.transport)
        return Trigger(
            name=self.name,
            topic=self.topic,
            action=self.action(),
            group=self.group,
            transport=self.transport,
            filter=self.filter,
            event_id=self.event_id,
            remember=seconds(self.remember, "remember"),
            debounce=_positive(self.debounce, "debounce"),
            max_wait=_positive(self.max_wait, "max_wait"),
            batch=self.batch,
            batch_wait=seconds(self.batch_wait, "batch_wait"),
        ).checked()


class TriggerView(ActionView, kw_only=True, frozen=True):
    """A trigger as it is shown, without what is secret in its URL; and what its messages came to."""

    name: str
    topic: str
    group: str
    transport: str
    filter: str
    event_id: str
    remember_seconds: float
    debounce_seconds: float
    max_wait_seconds: float
    batch: int
    batch_wait_seconds: float
    paused: bool
    counts: dict[str, int]


class Triggers:
    """The event triggers of one store."""

    def __init__(self, link: Link) -> None:
        self._store = link.store
        self._all = Definitions(link, TRIGGERS, "trigger", Trigger)

    async def create(self, spec: TriggerSpec) -> TriggerView:
        """Raises InvalidInput, AlreadyExists."""
        trigger = spec.trigger()
        await self._all.make(trigger.name, trigger, {"topic": trigger.topic, "mode": trigger.action.mode})
        return _view(trigger, {})

    async def list(self) -> list[TriggerView]:
        """All of them, by name."""
        counts = await totals(self._store, "triggers")
        return [_view(trigger, counts.get(trigger.name, {})) for trigger in await self._all.list()]

    async def get(self, name: str) -> TriggerView:
        """Raises NotFound."""
        return await self._seen(await self._all.get(name))

    async def pause(self, name: str) -> TriggerView:
        """Its messages wait in the broker. Raises NotFound."""
        return await self._seen(await self._all.change(name, lambda each: _paused(each, True), "pause", {}))

    async def resume(self, name: str) -> TriggerView:
        """Go on with the messages that wait. Raises NotFound."""
        return await self._seen(await self._all.change(name, lambda each: _paused(each, False), "resume", {}))

    async def recent(self, name: str | None = None) -> Mapping[str, Sequence[Recent]]:
        """What its last messages came to, the newest first, by name; of all, or of one."""
        return await latest(self._store, "triggers", name)

    async def delete(self, name: str) -> None:
        """What it has gathered becomes a dead letter when it is due. Raises NotFound."""
        await self._all.delete(name)

    async def _seen(self, trigger: Trigger) -> TriggerView:
        return _view(trigger, (await totals(self._store, "triggers", trigger.name)).get(trigger.name, {}))


def _positive(text: str, what: str) -> float:
    """Seconds; 0 if nothing is given. Raises InvalidInput."""
    found = seconds(text, what) if text else 0.0
    if text and not found:
        raise InvalidInput(f"{what}={text!r} is no time at all; give one above 0, or leave it out")
    return found


def _paused(trigger: Trigger, paused: bool) -> Trigger:
    return msgspec.structs.replace(trigger, paused=paused)


def _view(trigger: Trigger, counts: Mapping[str, int]) -> TriggerView:
    url = trigger.transport
    return TriggerView(
        **of_action(trigger.action),  # type: ignore[arg-type]
        name=trigger.name,
        topic=trigger.topic,
        group=trigger.consumer_group,
        transport=url if not url or references.is_elsewhere(url) else str(Address(url)),
        filter=trigger.filter,
        event_id=trigger.event_id,
        remember_seconds=trigger.remember,
        debounce_seconds=trigger.debounce,
        max_wait_seconds=trigger.max_wait,
        batch=trigger.batch,
        batch_wait_seconds=trigger.batch_wait,
        paused=trigger.paused,
        counts=shown(counts, OUTCOMES),
    )
