"""Endpoints of outgoing webhooks as operators make them and see them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from edow.client.definitions import Definitions
from edow.client.link import Link
from edow.client.resending import send_again
from edow.client.selection import LIMIT, select_letters, whole
from edow.errors import InvalidInput
from edow.store.contract import DeadLetterFilter
from edow.trigger import outgoing, references
from edow.trigger.given_up import SOURCE, sending_in
from edow.trigger.outgoing import ENDPOINTS, OUTCOMES, OUTGOING, STATUSES, Endpoint
from edow.trigger.schedules.definition import utc
from edow.trigger.tally import Recent, latest, shown, totals

KEEP_SECONDS = 86_400.0
MOST_KEEP_SECONDS = 90 * 86_400
MOST_GROUPS = 500  # of dead letters, looked through for those of endpoints


class EndpointSpec(msgspec.Struct, kw_only=True, frozen=True):
    """An endpoint to be made. Without secrets one is made up. `workflows`: names, or a beginning with * behind it;
    none: it is told of no ends.
    """

    name: str
    url: str
    secrets: list[str] = []
    workflows: tuple[str, ...] = ("*",)
    statuses: tuple[str, ...] = STATUSES
    results: bool = False


class RetiringView(msgspec.Struct, frozen=True):
    """A secret that has been replaced, and signs beside the new one until then."""

    secret: str
    until: datetime


class EndpointView(msgspec.Struct, kw_only=True, frozen=True):
    """An endpoint as it is shown: where its secrets are, not what they are; and what became of its messages.

    `given_up`: how many wait in the dead-letter desk, from where they can be sent again.
    """

    name: str
    url: str
    secrets: list[str]
    retiring: list[RetiringView]
    workflows: list[str]
    statuses: list[str]
    results: bool
    counts: dict[str, int]
    given_up: int


class MadeEndpoint(EndpointView, kw_only=True, frozen=True):
    """Just made, or rotated: with the secret, if one was made up, for the receiver; it is shown this once."""

    new_secret: str | None = None


class Endpoints:
    """The endpoints of one store."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._all = Definitions(link, OUTGOING, "endpoint", Endpoint, ENDPOINTS)

    async def create(self, spec: EndpointSpec) -> MadeEndpoint:
        """Raises InvalidInput, AlreadyExists."""
        made_up = None if spec.secrets else outgoing.new_secret()
        endpoint = Endpoint(
            name=spec.name,
            url=spec.url,
            secrets=tuple(spec.secrets) if made_up is None else (made_up,),
            workflows=spec.workflows,
            statuses=spec.statuses,
            results=spec.results,
        ).checked()
        await self._all.make(endpoint.name, endpoint, {"workflows": ", ".join(spec.workflows)[:200]})
        return _made(_view(endpoint, {}, 0, self._link.clock()), made_up)

    async def list(self) -> list[EndpointView]:
        """All of them, by name."""
        counts, given_up = await totals(self._link.store, "endpoints"), await self._given_up()
        now = self._link.clock()
        return [_view(each, counts.get(each.name, {}), given_up[each.name], now) for each in await self._all.list()]

    async def get(self, name: str) -> EndpointView:
        """Raises NotFound."""
        return await self._seen(await self._all.get(name))

    async def rotate(self, name: str, secret: str | None = None, keep: float = KEEP_SECONDS) -> MadeEndpoint:
        """Give it a new secret, made up unless there is one; for `keep` seconds those that it had sign, too.
        Raises NotFound, InvalidInput, RecordChanged.
        """
        if not 0 <= keep <= MOST_KEEP_SECONDS:
            raise InvalidInput(f"keep must be from 0 to {MOST_KEEP_SECONDS // 86_400} days, not {keep:g} s")
        new, now = secret or outgoing.new_secret(), self._link.clock()
        keep_us = round(keep * 1_000_000)
        told = {"keep_seconds": keep}
        endpoint = await self._all.change(name, lambda each: each.rotated(new, now, keep_us), "rotate", told)
        return _made(await self._seen(endpoint), None if secret else new)

    async def test(self, name: str) -> None:
        """Send it a message of the type `ping`, from the next orchestrator that looks. Raises NotFound."""
        endpoint = await self._all.get(name)
        puts = outgoing.message(endpoint.name, "ping", {}, self._link.clock())
        await self._link.act("endpoint.test", name, {}, puts=puts)

    def given_up(self, name: str) -> DeadLetterFilter:
        """What selects its messages that were given up; `Desk.left` tells how many more than LIMIT there are."""
        return DeadLetterFilter(source=SOURCE + name, limit=LIMIT)

    async def send_again(self, name: str) -> int:
        """All of its messages that were given up, but for those set aside, under the ids they had; how many, at most
        LIMIT. Raises NotFound.
        """
        await self._all.get(name)
        count = 0
        async for page in whole(self._link, await select_letters(self._link, self.given_up(name))):
            letters = [each for each in page if sending_in(each) is not None]
            count += await send_again(self._link, letters, "endpoint.send_again", name)
        if not count:
            await self._link.act("endpoint.send_again", name, {"letters": 0})
        return count

    async def recent(self, name: str | None = None) -> Mapping[str, Sequence[Recent]]:
        """What its last messages came to, the newest first, by name; of all, or of one."""
        return await latest(self._link.store, "endpoints", name)

    async def delete(self, name: str) -> None:
        """What is still to be sent becomes dead letters. Raises NotFound."""
        await self._all.delete(name)

    async def _seen(self, endpoint: Endpoint) -> EndpointView:
        counts = await totals(self._link.store, "endpoints", endpoint.name)
        given_up = (await self._given_up())[endpoint.name]
        return _view(endpoint, counts.get(endpoint.name, {}), given_up, self._link.clock())

    async def _given_up(self) -> Counter[str]:
        """How many messages wait for somebody to send them again, by endpoint."""
        found: Counter[str] = Counter()
        for group in await self._link.store.dead_letters_groups(False, MOST_GROUPS):
            source = group.newest.source
            if source.startswith(SOURCE):
                found[source.removeprefix(SOURCE)] += group.count
        return found


def _made(view: EndpointView, new_secret: str | None) -> MadeEndpoint:
    return MadeEndpoint(**{name: getattr(view, name) for name in view.__struct_fields__}, new_secret=new_secret)


def _view(endpoint: Endpoint, counts: Mapping[str, int], given_up: int, now: int) -> EndpointView:
    retiring = [each for each in endpoint.retiring if each.until > now]
    return EndpointView(
        name=endpoint.name,
        url=endpoint.url,
        secrets=[references.shown(secret) for secret in endpoint.secrets],
        retiring=[RetiringView(references.shown(each.secret), utc(each.until)) for each in retiring],
        workflows=list(endpoint.workflows),
        statuses=list(endpoint.statuses),
        results=endpoint.results,
        counts=shown(counts, OUTCOMES),
        given_up=given_up,
    )
