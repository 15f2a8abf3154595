"""Groups: the durable consumers of a topic's stream.

A group has a consumer for messages without a key, and one for each partition, of which the server gives out one message
at a time (max_ack_pending 1): that is the order by key, also across nacks and lost leases, whichever member gets what.

Where a topic has no partitions the group is one consumer of everything. In mode exclusive each subscriber makes one of
its own that begins where the former's acknowledgements end, and deletes the former. So what was not acknowledged is
delivered again, in order, and a reader that was only slow is shut out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import msgspec
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from edow.errors import InvalidInput, TransportUnavailable
from edow.transport.contract import GroupStats, PartitionStats
from edow.transport.nats.link import Link
from edow.transport.nats.names import ConsumerName, Topic, group_name, group_of, parse_consumer, partition_subject

HOLD_SECONDS = 10 * 365 * 24 * 3600.0  # a delivery that does not expire
FORGOTTEN_SECONDS = 60.0  # without a word of its reader, after which a listener's consumer is
MEMBERS = 4096  # of a group, at most
PAGE = 256  # of the server's list of consumers
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
CONSUMER_EXISTS = (10105, 10148)  # with another configuration
NO_MESSAGE = 10037

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Groups:
    """Errors: InvalidInput for a group that was not ensured or is used in another mode, TransportUnavailable."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def make(self, topic: Topic, groups: Iterable[str]) -> None:
        """Their consumers that do not exist, that without a role last. A reader alone has made one of its own."""
        existing = set(await self.consumers(topic))
        for group in set(map(group_name, groups)) - {name.group for name in existing if name.role == "x"}:
            keyed = {ConsumerName(group, "k", number) for number in range(topic.partitions)} - existing
            await asyncio.gather(*(self._create(topic, self._config(topic, name)) for name in keyed))
            if (first := ConsumerName(group)) not in existing:
                await self._create(topic, self._config(topic, first))

    async def share(self, topic: Topic, group: str, lease_seconds: float) -> list[str]:
        """The consumers to pull from, the one for messages without a key first. The smallest lease of all members is
        the server's; a member with a longer one extends its own in time.
        """
        found = await self._of_group(topic, group)
        if any(name.role == "x" for name in found):
            raise InvalidInput(f"group {group!r} of topic {topic.name!r} is read by one subscriber, not shared")
        configs = [info.config for info in found.values()]
        shorter = [each.evolve(ack_wait=lease_seconds) for each in configs if (each.ack_wait or 0) > lease_seconds]
        await asyncio.gather(*(self._link.ask(self._link.js.add_consumer(topic.stream, each)) for each in shorter))
        return [str(name) for name in sorted(found)]

    async def lease(self, topic: Topic, consumer: str) -> float:
        """The server's, for this consumer."""
        info = await self._link.ask(self._link.js.consumer_info(topic.stream, consumer))
        return float(info.config.ack_wait)

    async def take_over(self, topic: Topic, group: str, former: str = "") -> str | None:
        """The name of a consumer that is the caller's alone; None when the caller, who had `former`, is shut out."""
        if topic.partitions:
            raise InvalidInput(
                f"topic {topic.name!r} has partitions: its groups are shared by their members; "
                "one reader alone needs a topic made with the option partitions=0"
            )
        found = await self._of_group(topic, group)
        newest = max(found)
        if former and str(newest) != former:
            return None
        name = ConsumerName(newest.group, "x", newest.number + 1)
        config = self._config(topic, name).evolve(
            ack_policy=AckPolicy.ALL,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=_first_open(found[newest]),
        )
        if not await self._create(topic, config):
            raise TransportUnavailable(f"another reader takes over {topic.name!r} just now")
        await asyncio.gather(*(self.delete(topic, str(each)) for each in found))
        return str(name)

    async def trim(self, topic: Topic) -> None:
        """Forget what every group has acknowledged, up to the first message that one has not."""
        infos = (await self.consumers(topic)).values()
        first = min((_first_open(info) for info in infos if info.config.durable_name), default=1)
        if first > 1:
            await self._link.ask(self._link.js.purge_stream(topic.stream, first), STREAM_NOT_FOUND)

    async def listen(self, topic: Topic, name: str, start: int) -> None:
        """Make a consumer, kept by nobody, of what was published from there on. One of this name is replaced."""
        await self.delete(topic, name)
        config = ConsumerConfig(
            name=name,
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=start,
            inactive_threshold=FORGOTTEN_SECONDS,
            mem_storage=True,
            num_replicas=1,
        )
        await self._create(topic, config)

    async def delete(self, topic: Topic, consumer: str) -> None:
        """Also when there is none."""
        deleting = self._link.js.delete_consumer(topic.stream, consumer)
        await self._link.ask(deleting, CONSUMER_NOT_FOUND, STREAM_NOT_FOUND)

    async def describe(self, topic: Topic) -> list[GroupStats]:
        """See the contract. A message that waits to be delivered again counts as in flight."""
        stream = await self._link.ask(self._link.js.stream_info(topic.stream))
        groups: dict[str, list[tuple[ConsumerName, ConsumerInfo]]] = {}
        for name, info in sorted((await self.consumers(topic)).items(), key=lambda pair: pair[0]):
            if info.config.durable_name:
                groups.setdefault(name.group, []).append((name, info))
        return [
            GroupStats(
                group_of(group),
                sum(info.num_pending or 0 for _, info in found),
                sum(info.num_ack_pending or 0 for _, info in found),
                await self._oldest(topic, [info for _, info in found]),
                stream.state.last_seq,
                tuple(PartitionStats(str(name.number), _behind(info)) for name, info in found if name.role == "k"),
            )
            for group, found in groups.items()
        ]

    async def _oldest(self, topic: Topic, infos: Sequence[ConsumerInfo]) -> int | None:
        firsts = (
            self._link.js.get_msg(topic.stream, _first_open(info), info.config.filter_subject or ">", next=True)
            for info in infos
            if _behind(info)
        )
        found = await asyncio.gather(*(self._link.ask(first, NO_MESSAGE) for first in firsts))
        times = [each.time for each in found if each is not None and each.time is not None]
        return min(((time - _EPOCH) // datetime.resolution for time in times), default=None)

    async def _of_group(self, topic: Topic, group: str) -> dict[ConsumerName, ConsumerInfo]:
        wanted = group_name(group)
        found = {name: info for name, info in (await self.consumers(topic)).items() if name.group == wanted}
        if not found:
            raise InvalidInput(f"topic {topic.name!r} has no group {group!r}: make it with transport.ensure() first")
        return found

    async def consumers(self, topic: Topic) -> dict[ConsumerName, ConsumerInfo]:
        """All as they are now; none when the stream is gone."""
        found: dict[ConsumerName, ConsumerInfo] = {}
        while True:
            listing = self._link.js.consumers_info(topic.stream, len(found))
            page = await self._link.ask(listing, STREAM_NOT_FOUND) or []
            found |= {parse_consumer(info.name): info for info in page}
            if len(page) < PAGE:
                return found

    def _config(self, topic: Topic, name: ConsumerName) -> ConsumerConfig:
        """Of what is published from now on. Its deliveries expire once a member has said when."""
        subject = partition_subject(topic.subject, name.number) if name.role == "k" else topic.subject
        return ConsumerConfig(
            name=str(name),
            durable_name=str(name),
            deliver_policy=DeliverPolicy.NEW,
            filter_subject=subject if topic.partitions else None,
            ack_wait=HOLD_SECONDS,
            max_ack_pending=1 if name.role == "k" else self._link.options.in_flight,
            max_waiting=MEMBERS,
        )

    async def _create(self, topic: Topic, config: ConsumerConfig) -> bool:
        """Whether there was none of this name. The library's own words would change one that exists."""
        request = msgspec.json.encode({"stream_name": topic.stream, "config": config.as_dict(), "action": "create"})
        subject = f"{self._link.api}.CONSUMER.CREATE.{topic.stream}.{config.name}"
        asking = self._link.js._api_request(subject, request, self._link.options.request_timeout)
        return await self._link.ask(asking, *CONSUMER_EXISTS) is not None


def _first_open(info: ConsumerInfo) -> int:
    """Number of the first message that may not be acknowledged."""
    return 1 + (info.ack_floor.stream_seq if info.ack_floor is not None else 0)


def _behind(info: ConsumerInfo) -> int:
    return (info.num_pending or 0) + (info.num_ack_pending or 0)
