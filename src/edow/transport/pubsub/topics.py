"""Topics and subscriptions: made, known, and made again when they are gone.

They do not go by themselves, except with an emulator, which remembers nothing over a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from uuid import uuid4

import msgspec
from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.pubsub_v1.types import ExpirationPolicy, Subscription

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.pubsub.link import CLOSE_SECONDS, FIRST_PAUSE_SECONDS, Link
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import PubsubOptions

ACK_DEADLINE_SECONDS = 10  # the service's shortest; what is received gets the lease's length instead, at once
OWN_RETENTION = timedelta(minutes=10)  # the shortest there is
OWN_EXPIRY = timedelta(days=1)  # the same; what a killed broadcast subscriber leaves behind is gone after that
TOGETHER = 20  # requests about topics at one time

log = logging.getLogger("edow.transport.pubsub")


class Source(msgspec.Struct, eq=False):
    """A subscription that one subscriber reads."""

    topic: str
    group: str | None  # None: it is the subscriber's own
    path: str
    pulls: int = 0  # under way
    pause: float = FIRST_PAUSE_SECONDS  # after the next one that fails


class Topics:
    """What is known of the project's topics and subscriptions, by their paths."""

    def __init__(self, link: Link, names: Names, options: PubsubOptions) -> None:
        self.names = names
        self._link = link
        self._options = options
        self._ensured: dict[str, set[str]] = {}  # made again when it is gone
        self._known: set[str] = set()  # there, as far as we know
        self._seen: set[str] = set()  # there at some time
        self._turn = asyncio.Semaphore(TOGETHER)

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract. Looks before it makes: an account that may make nothing can use what exists."""
        for spec in specs:
            self.names.topic(spec.name)
            for group in spec.groups:
                self.names.subscription(spec.name, group)
        for spec in specs:
            self._ensured.setdefault(spec.name, set()).update(spec.groups)
        await asyncio.gather(*(self._make(spec.name, spec.groups) for spec in specs))

    async def check(self, topics: Collection[str]) -> None:
        """Raises InvalidInput for a topic that does not exist; TransportUnavailable for one that is gone for now."""
        for topic in topics:
            path = self.names.topic(topic)
            if path in self._known:
                continue
            try:
                exists = await self._has_topic(path)
            except InvalidInput as problem:  # a permission that is missing now says nothing of the topic
                raise TransportUnavailable(str(problem)) from problem
            if not exists and not await self._make_again(topic):
                if path in self._seen:
                    raise TransportUnavailable(f"topic {topic!r} is gone: {path} was deleted")
                raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")

    async def source(self, topic: str, group: str | None) -> Source:
        """The group's subscription, or a new one whose messages are those published from now on. Raises InvalidInput
        when there is none, or it does not keep what is promised.
        """
        if group is None:
            await self.check([topic])
            source = Source(topic, None, self.names.own_subscription(topic, uuid4().hex))
            await self._make_own(source)
            return source
        path = self.names.subscription(topic, group)
        self._known.discard(path)
        if not await self._has_subscription(path) and not await self._make_again(topic, group):
            raise InvalidInput(f"topic {topic!r} has no group {group!r}: make it with transport.ensure() first")
        return Source(topic, group, path)

    async def make_again(self, source: Source) -> bool:
        """It is gone, or its topic is. Whether that was ours to mend."""
        mended = await self._make_again(source.topic, source.group)
        if source.group is not None:
            return mended
        await self._make_own(source)
        return True

    async def delete(self, source: Source) -> None:
        """What cannot be deleted expires."""
        try:
            request = {"subscription": source.path}
            await self._link.call(self._link.subscriber.delete_subscription, request, CLOSE_SECONDS)
        except (GoogleAPICallError, EdowError) as problem:
            log.debug("%s could not be deleted, it will expire: %s", source.path, problem)

    def forget(self, topic: str) -> None:
        """The service says that it does not exist."""
        self._known.discard(self.names.topic(topic))

    async def _make_again(self, topic: str, group: str | None = None) -> bool:
        groups = self._ensured.get(topic)
        if groups is None or (group is not None and group not in groups):
            return False
        self._known -= {self.names.topic(topic), *(self.names.subscription(topic, each) for each in groups)}
        await self._make(topic, groups)
        return True

    async def _make(self, topic: str, groups: Collection[str]) -> None:
        path = self.names.topic(topic)
        if not await self._has_topic(path):
            await self._create(self._link.publisher.create_topic, {"name": path}, path)
        await asyncio.gather(*(self._make_group(topic, group) for group in groups))

    async def _make_group(self, topic: str, group: str) -> None:
        path = self.names.subscription(topic, group)
        if await self._has_subscription(path):
            return
        wanted = Subscription(
            name=path,
            topic=self.names.topic(topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            enable_message_ordering=True,
            enable_exactly_once_delivery=self._options.exactly_once,
            message_retention_duration=timedelta(days=self._options.retention_days),
            expiration_policy=ExpirationPolicy(),  # never: by default it would be deleted after a month without readers
        )
        await self._create(self._link.subscriber.create_subscription, wanted, path)
        await self._has_subscription(path)  # somebody else may have made it, otherwise

    async def _make_own(self, source: Source) -> None:
        wanted = Subscription(
            name=source.path,
            topic=self.names.topic(source.topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            message_retention_duration=OWN_RETENTION,
            expiration_policy=ExpirationPolicy(ttl=OWN_EXPIRY),
        )
        await self._create(self._link.subscriber.create_subscription, wanted, source.path)

    async def _has_topic(self, path: str) -> bool:
        return await self._find(self._link.publisher.get_topic, {"topic": path}, path) is not None

    async def _has_subscription(self, path: str) -> bool:
        """Raises InvalidInput for one that does not do what is promised."""
        found = await self._find(self._link.subscriber.get_subscription, {"subscription": path}, path)
        why = unfit(found) if isinstance(found, Subscription) else None
        if why is not None:
            self._known.discard(path)
            raise InvalidInput(f"subscription {path} {why}")
        return found is not None

    async def _find(self, get: Callable[..., Awaitable[object]], request: object, path: str) -> object | None:
        """True where it is known to be there."""
        if path in self._known:
            return True
        try:
            found = await self._ask(get, request, path)
        except NotFound:
            return None
        self._known.add(path)
        self._seen.add(path)
        return found

    async def _create(self, create: Callable[..., Awaitable[object]], request: object, path: str) -> None:
        """Unless somebody else is quicker."""
        try:
            await self._ask(create, request, path)
        except AlreadyExists:
            return
        except NotFound as problem:
            raise self._link.error(problem, f"{path} cannot be made") from problem
        if path in self._seen:
            log.warning("%s was gone and is made again; what it held is lost", path)
        self._known.add(path)
        self._seen.add(path)

    async def _ask(self, method: Callable[..., Awaitable[object]], request: object, path: str) -> object:
        async with self._turn:
            try:
                return await self._link.call(method, request)
            except (NotFound, AlreadyExists):
                raise
            except GoogleAPICallError as problem:
                raise self._link.error(problem, f"{path} cannot be used") from problem


def unfit(subscription: Subscription) -> str | None:
    """Why it does not do what is promised."""
    if not subscription.enable_message_ordering:
        return "was made without message ordering, which cannot be changed: delete it"
    if subscription.push_config.push_endpoint:
        return "pushes its messages elsewhere: remove its push endpoint"
    if subscription.topic == "_deleted-topic_":
        return "belongs to a topic that was deleted: delete it, too"
    return None
