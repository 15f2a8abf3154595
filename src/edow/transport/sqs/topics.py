"""What a topic is at Amazon: a queue for each of its groups or, without groups, an SNS topic that listeners hear.

A publisher must know the groups. It lists them again every `refresh` seconds, and whoever adds a group to a topic that
has others waits as long before it relies on it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Collection, Sequence

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.sqs.options import Options
from edow.transport.sqs.service import Missing, Rejected, Service

FIFO = ".fifo"
MOST_LETTERS = 80
PAGE = 1000  # queues of an answer

_UNSAFE = re.compile(rb"[^A-Za-z0-9.]")
_ESCAPED = re.compile(rb"_([0-9a-f]{2})")
_WORD = re.compile(r"(?:[A-Za-z0-9-]|_[0-9a-f]{2})+")


class Names:
    """Amazon allows letters, digits, hyphens and underscores, 80 in all for a queue. A dot becomes a hyphen and
    anything else `_` and two hexadecimal digits per byte, so that `edow.tasks.default` reads `edow-tasks-default` and
    no two names become one. A group's queue is TOPIC__GROUP, a broadcast subscriber's TOPIC_s_RANDOM.
    """

    def __init__(self, options: Options) -> None:
        self.prefix = _encode(options.prefix)
        self._options = options

    def topic(self, topic: str) -> str:
        """What names of the topic's queues begin with, and the name of its SNS topic."""
        return self.prefix + _encode(topic)

    def queue(self, topic: str, group: str) -> str:
        """A group's queue. Raises InvalidInput for what Amazon cannot name."""
        return _fits(f"{self.topic(topic)}__{_encode(group)}{self._suffix(topic)}", topic)

    def group(self, topic: str, queue: str) -> str | None:
        """Whose queue of the topic it is; None: no group's."""
        start, end = f"{self.topic(topic)}__", self._suffix(topic)
        word = queue.removeprefix(start).removesuffix(end)
        return _decode(word) if queue == start + word + end and _WORD.fullmatch(word) else None

    def listener(self, topic: str, random: str) -> str:
        """The queue of a broadcast subscriber. Raises InvalidInput for what Amazon cannot name."""
        return _fits(f"{self.topic(topic)}_s_{random}", topic)

    def _suffix(self, topic: str) -> str:
        return "" if self._options.order(topic) == "none" else FIFO


def _encode(name: str) -> str:
    text = name.encode(errors="surrogatepass")
    return _UNSAFE.sub(lambda found: b"_%02x" % ord(found[0]), text).decode().replace(".", "-")


def _decode(word: str) -> str:
    dotted = word.replace("-", ".").encode()
    return _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), dotted).decode(errors="surrogatepass")


def _fits(name: str, topic: str) -> str:
    if len(name) > MOST_LETTERS:
        raise InvalidInput(
            f"the queue of topic {topic!r} would be named {name!r}, which has {len(name)} letters and SQS allows "
            f"{MOST_LETTERS}: use a shorter topic, group or prefix"
        )
    return name


class Topics:
    """All that this process has had to do with."""

    def __init__(self, service: Service, options: Options) -> None:
        self.names = Names(options)
        self._service = service
        self._options = options
        self._queues: dict[str, dict[str, str]] = {}  # topic -> group -> URL
        self._arns: dict[str, str] = {}  # topic without groups -> its SNS topic; "" where there is no SNS
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract. Raises InvalidInput for what the account does not allow, too."""
        for spec in specs:  # before anything is made
            if not all((spec.name, *spec.groups)):
                raise InvalidInput(f"topics and groups need names, but {spec} has one without")
            self.names.listener(spec.name, "")
            for group in spec.groups:
                self.names.queue(spec.name, group)
        wanted = {spec.name for spec in specs}
        try:
            async with self._looking:
                known = {name: {*self.queues(name)} for name in wanted}
                self.forget(wanted)
                await self._look(wanted)
                old = {name for name in wanted if self.queues(name)}
                await asyncio.gather(*(self._make(spec) for spec in specs))
                await self._look(wanted)
        except Missing:
            raise  # one was deleted within the last minute: Amazon makes it again after that
        except Rejected as problem:
            raise InvalidInput(f"topics could not be made: {problem}") from problem
        for spec in specs:
            others = self.queues(spec.name).keys() - {*spec.groups}
            if {*spec.groups} - known[spec.name] and (others or (spec.name in old and len(spec.groups) > 1)):
                await asyncio.sleep(self._options.refresh)  # until whoever publishes knows, too
                break

    async def know(self, names: Collection[str]) -> None:
        """Know them as they were at most `refresh` seconds ago. Raises InvalidInput for one that nobody ensured."""
        async with self._looking:
            stale = asyncio.get_running_loop().time() - self._looked_at >= self._options.refresh
            if stale or not all(self._knows(name) for name in names):
                await self._look(names)
        for name in names:
            if not self._knows(name):
                raise InvalidInput(f"topic {name!r} does not exist: make it with transport.ensure() first")

    def forget(self, names: Collection[str] = ()) -> None:
        """They, or all, may not be there any more: look again before the next use."""
        for name in names or [*self._queues, *self._arns]:
            self._queues.pop(name, None)
            self._arns.pop(name, None)

    def queues(self, name: str) -> dict[str, str]:
        """The queues of a known topic's groups."""
        return self._queues.get(name, {})

    def queue(self, name: str, group: str) -> str:
        """Of a known topic. Raises InvalidInput if nobody ensured it."""
        if (url := self.queues(name).get(group)) is None:
            raise InvalidInput(f"topic {name!r} has no group {group!r}: make it with transport.ensure() first")
        return url

    def arn(self, name: str) -> str:
        """The SNS topic of a known topic without groups; "" if there is none."""
        return self._arns.get(name, "")

    async def list_queues(self, prefix: str) -> list[str]:
        """The URLs of all queues whose names begin so."""
        pages = self._service.pages("sqs", "list_queues", QueueNamePrefix=prefix, MaxResults=PAGE)
        return [str(url) async for page in pages for url in page.get("QueueUrls", [])]

    def _knows(self, name: str) -> bool:
        return name in self._queues or name in self._arns

    async def _look(self, names: Collection[str]) -> None:
        """For what there is of these topics, and of those that we have had to do with. One listing finds all queues, by
        what their names have in common.
        """
        began = asyncio.get_running_loop().time()
        topics = {self.names.topic(name): name for name in {*names, *self._queues}}
        for url in await self.list_queues(os.path.commonprefix([*topics])):  # noqa: RUF071 - no paths
            queue = url.rpartition("/")[2]
            name = topics.get(queue.partition("__")[0], "")
            if name and (group := self.names.group(name, queue)):
                self._queues.setdefault(name, {})[group] = url
        if self._options.sns != "none" and not all(self._knows(name) for name in names):
            async for page in self._service.pages("sns", "list_topics"):
                for found in page["Topics"]:
                    name = topics.get(found["TopicArn"].rpartition(":")[2], "")
                    if name and not self._knows(name):
                        self._arns[name] = found["TopicArn"]
        self._looked_at = began

    async def _make(self, spec: TopicSpec) -> None:
        if spec.groups and spec.name in self._arns:
            raise InvalidInput(
                f"topic {spec.name!r} was made without groups, to be heard by all: give the group "
                f"{spec.groups[0]!r} a topic of its own, or delete the SNS topic first"
            )
        await asyncio.gather(*(self._make_queue(spec.name, group) for group in spec.groups))
        if not self._knows(spec.name):
            self._arns[spec.name] = ""
            if self._options.sns != "none":
                answer = await self._service.call("sns", "create_topic", Name=self.names.topic(spec.name))
                self._arns[spec.name] = str(answer["TopicArn"])

    async def _make_queue(self, topic: str, group: str) -> None:
        if group in self.queues(topic):
            return
        name = self.names.queue(topic, group)
        attributes = {
            "MessageRetentionPeriod": str(self._options.retention),
            "MaximumMessageSize": str(self._options.max_request),
        }
        if name.endswith(FIFO):  # and as fast as FIFO queues can be, by the last two
            attributes |= {
                "FifoQueue": "true",
                "DeduplicationScope": "messageGroup",
                "FifoThroughputLimit": "perMessageGroupId",
            }
        answer = await self._service.call("sqs", "create_queue", QueueName=name, Attributes=attributes)
        self._queues.setdefault(topic, {})[group] = str(answer["QueueUrl"])
