"""Topics and subscriptions: made, known, and made again when they are gone.

They do not go by themselves, except with an emulator, which remembers nothing over a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import msgspec
from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.pubsub_v1.types import (
    DeleteSubscriptionRequest,
    ExpirationPolicy,
    GetSubscriptionRequest,
    GetTopicRequest,
    Subscription,
    Topic,
)

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.pubsub.link import CLOSE_SECONDS, FIRST_PAUSE_SECONDS, Link
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import PubsubOptions

ACK_DEADLINE_SECONDS = 10  # the service's shortest; what is received gets the lease's length instead, at once
DELETED = "_deleted-topic_"  # what the service calls the topic of a subscription that has none any more
MOST_TRIES = 5  # to make one, while others make and delete it
OWN_RETENTION = timedelta(minutes=10)  # the shortest there is
OWN_EXPIRY = timedelta(days=1)  # the same; what a killed broadcast subscriber leaves behind is gone after that

log = logging.getLogger("edow.transport.pubsub")


class Source(msgspec.Struct, eq=False):
    """A subscription that one subscriber reads."""

    topic: str
    group: str | None  # None: it is the subscriber's own
    path: str
    pulls: int = 0  # under way
    pause: float = FIRST_PAUSE_SECONDS  # after the next one that fails


class Topics:
    """What is known of the project's topics and subscriptions."""

    def __init__(self, link: Link, names: Names, options: PubsubOptions) -> None:
        self.names = names
        self._link = link
        self._options = options
        self._ensured: dict[str, set[str]] = {}  # made again when it is gone
        self._exists: dict[str, bool] = {}  # by path, as far as we know; False: it is gone
        self._making: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by path
        self._whole: set[str] = set()  # topics that are there with all their groups: nothing that is published is lost

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract. Looks before it makes: an account that may make nothing can use what exists."""
        for spec in specs:
            self._paths(spec.name, spec.groups)
        for spec in specs:
            self._ensured.setdefault(spec.name, set()).update(spec.groups)
        await asyncio.gather(*(self._ensure(spec.name, spec.groups) for spec in specs))

    async def check(self, topics: Collection[str]) -> None:
        """Raises InvalidInput for a topic that does not exist; TransportUnavailable for one that is gone for now."""
        for topic in topics:
            if topic in self._whole:
                continue
            path = self.names.topic(topic)
            try:
                found = await self._make_again(topic) or await self._has(Topic(name=path))
            except InvalidInput as problem:  # a permission that is missing now says nothing of the topic
                raise TransportUnavailable(str(problem)) from problem
            if not found:
                if path in self._exists:
                    raise TransportUnavailable(f"topic {topic!r} is gone: {path} was deleted")
                raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")
            self._whole.add(topic)

    async def source(self, topic: str, group: str | None) -> Source:
        """The group's subscription, or one of its own that gets what is published from now on. Raises InvalidInput when
        there is none, or it does not keep what is promised.
        """
        if group is None:
            await self.check([topic])
            source = Source(topic, None, self.names.own_subscription(topic, uuid4().hex))
            await self._make(self._wanted(source))
            return source
        source = Source(topic, group, self.names.subscription(topic, group))
        self._exists.pop(source.path, None)
        if not await self._has(self._wanted(source)) and not await self._make_again(topic, group):
            raise InvalidInput(f"topic {topic!r} has no group {group!r}: make it with transport.ensure() first")
        return source

    async def look(self, source: Source) -> None:
        """Make it again if it has outlived its topic, which no pull tells: one from it waits for ever. Raises
        TransportUnavailable where that is not ours to mend.
        """
        try:
            self._exists.pop(source.path, None)
            if not await self._has(self._wanted(source)) and not await self.make_again(source):
                raise TransportUnavailable(f"{source.path} is gone: it was deleted, or its topic was")
        except InvalidInput as problem:  # what one finds in the middle of work may be mended by others
            raise TransportUnavailable(str(problem)) from problem

    async def make_again(self, source: Source) -> bool:
        """It is gone, or its topic is. Whether that was ours to mend."""
        self._exists[source.path] = False
        mended = await self._make_again(source.topic, source.group)
        if source.group is None:
            await self._make(self._wanted(source))
        return mended or source.group is None

    async def delete(self, source: Source) -> None:
        """What cannot be deleted expires."""
        self._exists.pop(source.path, None)
        self._making.pop(source.path, None)
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._link.call("Subscriber/DeleteSubscription", _deletion(source.path))
        except (GoogleAPICallError, EdowError, TimeoutError) as problem:
            log.debug("%s could not be deleted, it will expire: %s", source.path, problem)

    def forget(self, topic: str) -> None:
        """The service says that it, or one of its subscriptions, does not exist."""
        self._whole.discard(topic)
        paths = self._paths(topic, self._ensured.get(topic, ()))
        self._exists |= {path: False for path in paths if path in self._exists}

    async def _make_again(self, topic: str, group: str | None = None) -> bool:
        groups = self._ensured.get(topic)
        if groups is None or (group is not None and group not in groups):
            return False
        self.forget(topic)
        await self._ensure(topic, groups)
        return True

    def _paths(self, topic: str, groups: Collection[str]) -> list[str]:
        """Raises InvalidInput for names that Pub/Sub does not take."""
        return [self.names.topic(topic), *(self.names.subscription(topic, group) for group in groups)]

    async def _ensure(self, topic: str, groups: Collection[str]) -> None:
        path, *paths = self._paths(topic, groups)
        await self._make(Topic(name=path))
        wanted = [self._wanted(Source(topic, group, path)) for group, path in zip(groups, paths, strict=True)]
        await asyncio.gather(*(self._make(each) for each in wanted))
        self._whole.add(topic)

    def _wanted(self, source: Source) -> Subscription:
        """Never expires: by default it would be deleted after a month without readers."""
        own = source.group is None
        return Subscription(
            name=source.path,
            topic=self.names.topic(source.topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            enable_message_ordering=not own,
            enable_exactly_once_delivery=self._options.exactly_once and not own,
            message_retention_duration=OWN_RETENTION if own else timedelta(days=self._options.retention_days),
            expiration_policy=ExpirationPolicy(ttl=OWN_EXPIRY) if own else ExpirationPolicy(),
        )

    async def _make(self, wanted: Topic | Subscription) -> None:
        async with self._making[wanted.name]:  # else one would delete what another has just made
            await self._make_alone(wanted)

    async def _make_alone(self, wanted: Topic | Subscription) -> None:
        for _ in range(MOST_TRIES):
            if await self._has(wanted):
                return
            try:
                await self._create(wanted)
            except AlreadyExists:
                if isinstance(wanted, Subscription) and not await self._has(wanted):
                    await self._remove(wanted)
                continue  # somebody else has made it, perhaps otherwise
            if wanted.name in self._exists:
                log.warning("%s was gone and is made again; what it held is lost", wanted.name)
            self._exists[wanted.name] = True
            return
        raise TransportUnavailable(f"{wanted.name} cannot be made: it is deleted as often as it is made")

    async def _remove(self, wanted: Subscription) -> None:
        """Made while its topic was being deleted; nothing is ever published to that one again."""
        with suppress(NotFound):
            await self._ask("Subscriber/DeleteSubscription", _deletion(wanted.name), wanted.name)

    async def _create(self, wanted: Topic | Subscription) -> None:
        """Raises AlreadyExists."""
        method = "Publisher/CreateTopic" if isinstance(wanted, Topic) else "Subscriber/CreateSubscription"
        try:
            await self._ask(method, type(wanted).pb(wanted), wanted.name)
        except NotFound as problem:
            if isinstance(wanted, Subscription):  # it is the topic that is gone, whatever we knew of it
                self._exists[wanted.topic] = False
            raise self._link.error(problem, f"{wanted.name} cannot be made") from problem

    async def _has(self, wanted: Topic | Subscription) -> bool:
        """Raises InvalidInput for a subscription that does not keep what is promised."""
        if self._exists.get(wanted.name):
            return True
        try:
            if isinstance(wanted, Topic):
                await self._ask("Publisher/GetTopic", GetTopicRequest.pb()(topic=wanted.name), wanted.name)
            else:
                request = GetSubscriptionRequest.pb()(subscription=wanted.name)
                found = Subscription.deserialize(await self._ask("Subscriber/GetSubscription", request, wanted.name))
                if found.topic == DELETED:
                    return False
                refuse_unfit(found, wanted)
        except NotFound:
            return False
        self._exists[wanted.name] = True
        return True

    async def _ask(self, method: str, request: object, path: str) -> bytes:
        try:
            return await self._link.call(method, request)
        except (NotFound, AlreadyExists):
            raise
        except GoogleAPICallError as problem:
            raise self._link.error(problem, f"{path} cannot be used") from problem


def _deletion(path: str) -> object:
    return DeleteSubscriptionRequest.pb()(subscription=path)


def refuse_unfit(found: Subscription, wanted: Subscription) -> None:
    """Raises InvalidInput for one that does not do what is promised."""
    why = None
    if wanted.enable_message_ordering and not found.enable_message_ordering:
        why = "was made without message ordering, which cannot be changed: delete it"
    elif found.push_config.push_endpoint:
        why = "pushes its messages elsewhere: remove its push endpoint"
    if why is not None:
        raise InvalidInput(f"subscription {found.name} {why}")
