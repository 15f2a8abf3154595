"""Which queues a topic has, or which SNS topic: what a publisher must know.

A message goes straight to each group's queue, or to an SNS topic that hands it on, as the option `sns` says. Straight
is cheaper and quicker; but then a publisher must know the groups. It lists them again every `refresh` seconds, and
whoever adds a group to a topic that has others waits as long before it relies on it (`edow.transport.sqs.setup`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from edow.errors import InvalidInput, Unsupported
from edow.transport.contract import TopicSpec
from edow.transport.sqs.names import FIFO, Names
from edow.transport.sqs.options import Options, Order
from edow.transport.sqs.service import Api, Missing, Service, gather

PAGE = 1000


class Target(NamedTuple):
    """Where a message is sent to: a queue's URL or an SNS topic's name (ARN)."""

    api: Api
    where: str
    order: Order


class Topic:
    """What is known of one. It has groups or is for broadcasts, and stays so."""

    def __init__(self) -> None:
        self.groups: dict[str, str] = {}  # the queues' URLs
        self.sns = ""  # the ARN, where it is sent through SNS
        self.silent = False  # for broadcasts, where there is no SNS: sent to nobody


class Catalog:
    """All topics that this process has had to do with."""

    def __init__(self, service: Service, names: Names, options: Options) -> None:
        self.names = names
        self.ensured: set[TopicSpec] = set()
        self._service = service
        self._options = options
        self._topics: dict[str, Topic] = {}
        self._made: dict[str, dict[str, str]] = {}  # queues that were made or found here, listed or not yet
        self._owner = ""  # what ARNs of SNS topics begin with
        self._listed_at = float("-inf")
        self._listing = asyncio.Lock()

    def topic(self, name: str) -> Topic:
        """What is known of it, perhaps nothing."""
        return self._topics.setdefault(name, Topic())

    async def know(self, topics: Collection[str]) -> None:
        """Know them as they were at most `refresh` seconds ago. Raises InvalidInput for one that nobody ensured."""
        stale = asyncio.get_running_loop().time() - self._listed_at >= self._options.refresh
        if any(not self._is_known(name) for name in topics) or (stale and self._options.sns != "all"):
            await self.list_groups({*topics, *self._topics})
            await gather(self.find_sns(name) for name in topics)
        for name in topics:
            if not self._is_known(name):
                del self._topics[name]
                raise InvalidInput(f"topic {name!r} does not exist: make it with transport.ensure() first")

    def targets(self, name: str) -> list[Target]:
        """Where a message to a known topic goes."""
        topic, order = self.topic(name), self._options.order(name)
        if topic.sns:
            return [Target("sns", topic.sns, order if topic.sns.endswith(FIFO) else Order.NONE)]
        return [Target("sqs", url, order) for url in topic.groups.values()]

    def queue(self, name: str, group: str) -> str:
        """The URL of a group's queue. Raises InvalidInput if nobody ensured it."""
        url = self.topic(name).groups.get(group)
        if url is None:
            raise InvalidInput(f"topic {name!r} has no group {group!r}: make it with transport.ensure() first")
        return url

    def broadcast(self, name: str) -> str:
        """The SNS topic that broadcast subscribers of a known topic hear. Raises Unsupported if there is none."""
        if arn := self.topic(name).sns:
            return arn
        raise Unsupported(
            f"topic {name!r} has groups and is not sent through SNS: with sns=broadcast only a topic without groups "
            "can be heard by all; use sns=all"
        )

    def add_queue(self, name: str, group: str, url: str) -> None:
        self._made.setdefault(name, {})[group] = url
        self.topic(name).groups[group] = url

    def add_sns(self, name: str, arn: str) -> None:
        self._owner = arn.rpartition(":")[0]
        self.topic(name).sns = arn

    def forget(self) -> None:
        """Something of it was not there any more: look again before the next use."""
        self._listed_at = float("-inf")
        self.ensured.clear()
        self._made.clear()
        self._topics.clear()

    async def list_groups(self, topics: Collection[str]) -> None:
        """The groups of these topics and of those like them, with one listing: by what their names have in common."""
        async with self._listing:
            began = asyncio.get_running_loop().time()
            common = os.path.commonprefix([self.names.topic(name) for name in topics])  # noqa: RUF071 - no paths
            groups = {name: dict(made) for name, made in self._made.items()}
            for url in await self.list_urls(common):
                if found := self.names.parse(url.rpartition("/")[2]):
                    groups.setdefault(found.topic, {})[found.group] = url
            for name in topics:
                self.topic(name).groups = groups.get(name, {})
            self._listed_at = began

    async def list_urls(self, prefix: str) -> list[str]:
        """The URLs of all queues whose names begin so."""
        urls: list[str] = []
        parameters: dict[str, object] = {"QueueNamePrefix": prefix, "MaxResults": PAGE}
        while True:
            answer = await self._service.request("sqs", "list_queues", **parameters)
            urls += msgspec.convert(answer.get("QueueUrls", []), list[str])
            if not (token := answer.get("NextToken")):
                return urls
            parameters["NextToken"] = token

    async def find_sns(self, name: str) -> None:
        """Look for the SNS topic. One with groups has one if all go through SNS; one without may have been made."""
        topic = self.topic(name)
        if topic.sns or self._options.sns == "none" or (topic.groups and self._options.sns == "broadcast"):
            return
        suffix = self.names.suffix(name) if topic.groups else ""
        owner = await self._find_owner()
        if owner and await self._has_sns(arn := f"{owner}:{self.names.topic(name)}{suffix}"):
            topic.sns = arn

    async def _find_owner(self) -> str:
        """Partition, region and account, as any SNS topic shows them; empty while there is none at all."""
        if not self._owner:
            answer = await self._service.request("sns", "list_topics")
            topics = msgspec.convert(answer.get("Topics", []), list[dict[str, str]])
            self._owner = topics[0]["TopicArn"].rpartition(":")[0] if topics else ""
        return self._owner

    async def _has_sns(self, arn: str) -> bool:
        try:
            await self._service.request("sns", "get_topic_attributes", TopicArn=arn)
        except Missing:
            return False
        return True

    def _is_known(self, name: str) -> bool:
        topic = self._topics.get(name)
        if topic is None:
            return False
        through_sns = self._options.sns == "all"
        return bool(topic.sns or topic.silent or (topic.groups and not through_sns))
