"""Endpoints of outgoing webhooks as operators make them and see them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from edow.client.definitions import Definitions
from edow.client.link import Link
from edow.trigger import outgoing, references
from edow.trigger.outgoing import ENDPOINTS, OUTCOMES, OUTGOING, STATUSES, Endpoint
from edow.trigger.tally import shown, totals


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


class EndpointView(msgspec.Struct, kw_only=True, frozen=True):
    """An endpoint as it is shown: where its secrets are, not what they are; and what became of its messages."""

    name: str
    url: str
    secrets: list[str]
    workflows: list[str]
    statuses: list[str]
    results: bool
    counts: dict[str, int]


class MadeEndpoint(EndpointView, kw_only=True, frozen=True):
    """Just made: with the secret, if one was made up, for the receiver; it is shown this once."""

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
        return MadeEndpoint(**msgspec.structs.asdict(_view(endpoint, {})), new_secret=made_up)

    async def list(self) -> list[EndpointView]:
        """All of them, by name."""
        counts = await totals(self._link.store, "endpoints")
        return [_view(endpoint, counts.get(endpoint.name, {})) for endpoint in await self._all.list()]

    async def get(self, name: str) -> EndpointView:
        """Raises NotFound."""
        counts = await totals(self._link.store, "endpoints", name)
        return _view(await self._all.get(name), counts.get(name, {}))

    async def test(self, name: str) -> None:
        """Send it a message of the type `ping`, from the next orchestrator that looks. Raises NotFound."""
        endpoint = await self._all.get(name)
        puts = outgoing.message(endpoint.name, "ping", {}, self._link.clock())
        await self._link.act("endpoint.test", name, {}, puts=puts)

    async def delete(self, name: str) -> None:
        """What is still to be sent becomes dead letters. Raises NotFound."""
        await self._all.delete(name)


def _view(endpoint: Endpoint, counts: Mapping[str, int]) -> EndpointView:
    return EndpointView(
        name=endpoint.name,
        url=endpoint.url,
        secrets=[references.shown(secret) for secret in endpoint.secrets],
        workflows=list(endpoint.workflows),
        statuses=list(endpoint.statuses),
        results=endpoint.results,
        counts=shown(counts, OUTCOMES),
    )
