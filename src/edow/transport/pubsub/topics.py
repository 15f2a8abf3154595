"""Topics and subscriptions: made, known, and made again when they are gone.

They do not go by themselves, except with an emulator, which remembers nothing over a restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from uuid import uuid4

from google.api_core.exceptions import AlreadyExists, GoogleAPICallError, NotFound
from google.pubsub_v1.types import ExpirationPolicy, Subscription

from edow.errors import EdowError, InvalidInput, TransportUnavailable
from edow.transport.contract import TopicSpec
from edow.transport.pubsub.link import Link, Result
from edow.transport.pubsub.names import Names
from edow.transport.pubsub.options import PubsubOptions

ACK_DEADLINE_SECONDS = 10  # the service's shortest; what is received gets the lease's length instead, at once
OWN_RETENTION_SECONDS = 600  # the shortest there is
OWN_EXPIRY_SECONDS = 86_400  # the same; what a killed broadcast subscriber leaves behind is gone after that
TOGETHER = 20  # requests about topics at one time

log = logging.getLogger("edow.transport.pubsub")


class Topics:
    """What is known of the project's topics and subscriptions."""

    def __init__(self, link: Link, names: Names, options: PubsubOptions) -> None:
        self._link = link
        self._names = names
        self._options = options
        self._known: set[str] = set()  # topics
        self._seen: set[str] = set()  # paths of what was there at some time
        self._ensured: dict[str, set[str]] = {}
        self._made: dict[str, set[str]] = {}  # of those, what exists as far as we know
        self._turn = asyncio.Semaphore(TOGETHER)

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract. Looks before it makes: an account that may make nothing can use what exists."""
        wanted: dict[str, set[str]] = {}
        for spec in specs:
            self._names.topic(spec.name)
            for group in spec.groups:
                self._names.subscription(spec.name, group)
            wanted.setdefault(spec.name, set()).update(spec.groups)
        for topic, groups in wanted.items():
            self._ensured.setdefault(topic, set()).update(groups)
        await asyncio.gather(*(self._ensure(topic, groups) for topic, groups in wanted.items()))

    async def check(self, topics: Collection[str]) -> None:
        """Raises InvalidInput for a topic that does not exist; TransportUnavailable for one that is gone for now."""
        unknown = [topic for topic in topics if topic not in self._known]
        try:
            found = await asyncio.gather(*(self._exists(topic) for topic in unknown))
        except InvalidInput as problem:  # a permission that is missing now says nothing of the topic
            raise TransportUnavailable(str(problem)) from problem
        for topic in (topic for topic, exists in zip(unknown, found, strict=True) if not exists):
            if self._names.topic(topic) not in self._seen:
                raise InvalidInput(f"there is no topic {topic!r}: make it with transport.ensure() first")
            if not await self.heal(topic, None):
                raise TransportUnavailable(f"topic {topic!r} is gone: {self._names.topic(topic)} was deleted")

    async def find(self, topic: str, group: str) -> str:
        """The group's subscription. Raises InvalidInput when there is none, or it does not keep what is promised."""
        path = self._names.subscription(topic, group)
        found = await self._get(path)
        if found is None and await self.heal(topic, group):
            found = await self._get(path)
        if found is None:
            raise InvalidInput(f"topic {topic!r} has no group {group!r}: make it with transport.ensure() first")
        self._check(found)
        return path

    async def make_own(self, topic: str, path: str | None = None) -> str:
        """A subscription for one broadcast subscriber; what is published from now on is for it."""
        if path is None:
            await self.check([topic])
            path = self._names.own_subscription(topic, uuid4().hex)
        wanted = Subscription(
            name=path,
            topic=self._names.topic(topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            message_retention_duration=timedelta(seconds=OWN_RETENTION_SECONDS),
            expiration_policy=ExpirationPolicy(ttl=timedelta(seconds=OWN_EXPIRY_SECONDS)),
        )
        await self._create(
            lambda left: self._link.subscriber.create_subscription(wanted, retry=None, timeout=left), path
        )
        return path

    async def delete_own(self, path: str, seconds: float) -> None:
        """What cannot be deleted expires."""
        subscriber = self._link.subscriber
        try:
            await self._link.call(
                lambda left: subscriber.delete_subscription(subscription=path, retry=None, timeout=left), seconds
            )
        except (GoogleAPICallError, EdowError) as problem:
            log.debug("subscription %s could not be deleted, it will expire: %s", path, problem)

    async def heal(self, topic: str, group: str | None) -> bool:
        """Make again what is gone, if it was this transport that had ensured it."""
        groups = self._ensured.get(topic)
        if groups is None or (group is not None and group not in groups):
            return False
        self.forget(topic)
        await self._ensure(topic, groups)
        return True

    def forget(self, topic: str) -> None:
        """The service says that it does not exist."""
        self._known.discard(topic)
        self._made.pop(topic, None)

    async def _ensure(self, topic: str, groups: Collection[str]) -> None:
        made = self._made.get(topic)
        if made is not None and made.issuperset(groups):
            return
        path = self._names.topic(topic)
        publisher = self._link.publisher
        if topic not in self._known and not await self._exists(topic):
            await self._create(lambda left: publisher.create_topic(name=path, retry=None, timeout=left), path)
            self._known.add(topic)
        await asyncio.gather(*(self._ensure_group(topic, group) for group in groups))
        self._made.setdefault(topic, set()).update(groups)

    async def _ensure_group(self, topic: str, group: str) -> None:
        path = self._names.subscription(topic, group)
        if (found := await self._get(path)) is None:
            wanted = self._wanted(path, topic)
            subscriber = self._link.subscriber
            await self._create(lambda left: subscriber.create_subscription(wanted, retry=None, timeout=left), path)
            found = await self._get(path)
        if found is not None:
            self._check(found)

    def _wanted(self, path: str, topic: str) -> Subscription:
        return Subscription(
            name=path,
            topic=self._names.topic(topic),
            ack_deadline_seconds=ACK_DEADLINE_SECONDS,
            enable_message_ordering=self._options.ordering,
            enable_exactly_once_delivery=self._options.exactly_once,
            message_retention_duration=timedelta(days=self._options.retention_days),
            expiration_policy=ExpirationPolicy(),  # never: by default it would be deleted after a month without readers
        )

    def _check(self, found: Subscription) -> None:
        if self._options.ordering and not found.enable_message_ordering:
            raise InvalidInput(
                f"subscription {found.name} was made without message ordering, which cannot be changed: delete it, or "
                "set ordering=false and do without order by key"
            )
        if found.push_config.push_endpoint:
            raise InvalidInput(f"subscription {found.name} pushes its messages elsewhere: remove its push endpoint")
        if found.topic == "_deleted-topic_":
            raise InvalidInput(f"subscription {found.name} belongs to a topic that was deleted: delete it, too")

    async def _exists(self, topic: str) -> bool:
        path = self._names.topic(topic)
        publisher = self._link.publisher
        try:
            await self._ask(lambda left: publisher.get_topic(topic=path, retry=None, timeout=left), path)
        except NotFound:
            return False
        self._known.add(topic)
        self._seen.add(path)
        return True

    async def _get(self, path: str) -> Subscription | None:
        subscriber = self._link.subscriber
        try:
            found = await self._ask(
                lambda left: subscriber.get_subscription(subscription=path, retry=None, timeout=left), path
            )
        except NotFound:
            return None
        self._seen.add(path)
        return found

    async def _create(self, call: Callable[[float], Awaitable[object]], path: str) -> None:
        """Unless somebody else was quicker."""
        try:
            await self._ask(call, path)
        except AlreadyExists:
            pass
        except NotFound as problem:
            raise self._link.error(problem, f"{path} cannot be made") from problem
        else:
            if path in self._seen:
                log.warning("%s was gone and is made again; what it held is lost", path)
        self._seen.add(path)

    async def _ask(self, call: Callable[[float], Awaitable[Result]], path: str) -> Result:
        async with self._turn:
            try:
                return await self._link.call(call)
            except (NotFound, AlreadyExists):
                raise
            except GoogleAPICallError as problem:
                raise self._link.error(problem, f"{path} cannot be used") from problem
