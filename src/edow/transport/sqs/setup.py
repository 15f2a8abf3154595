"""Making what topics need: queues for groups, SNS topics, subscriptions between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from edow.errors import InvalidInput
from edow.transport.contract import TopicSpec
from edow.transport.sqs.catalog import Catalog
from edow.transport.sqs.options import Options
from edow.transport.sqs.service import Missing, Rejected, Service, gather

VISIBILITY = 30  # of a queue for readers that ask for none; ours always do


class Setup:
    """`clock`: microseconds, to tell how long ago a queue was made."""

    def __init__(self, service: Service, catalog: Catalog, options: Options, clock: Callable[[], int]) -> None:
        self._service = service
        self._catalog = catalog
        self._options = options
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def ensure(self, specs: Sequence[TopicSpec]) -> None:
        """See the contract. Raises InvalidInput for what the account does not allow, too."""
        async with self._one_at_a_time:
            await self._ensure(specs)

    async def _ensure(self, specs: Sequence[TopicSpec]) -> None:
        new = [spec for spec in specs if spec not in self._catalog.ensured]
        for spec in new:
            self._check_names(spec)
        if not new:
            return
        names = {spec.name for spec in new}
        try:
            await self._catalog.list_groups(names)
            old = {name for name in names if self._catalog.topic(name).groups}
            await gather(self._make(spec) for spec in new)
            await self._catalog.list_groups(names)
            await gather(self._until_known(spec, spec.name in old) for spec in new)
        except Rejected as problem:
            raise InvalidInput(f"topics could not be made: {problem}") from problem
        self._catalog.ensured.update(new)

    async def make_queue(self, name: str, attributes: dict[str, str], tags: dict[str, str] | None = None) -> str:
        """The URL of the queue of that name, which somebody may have made before, with settings of their own."""
        parameters = {"QueueName": name, "Attributes": attributes, "tags": tags or {}}
        try:
            answer = await self._service.request("sqs", "create_queue", **parameters)
        except Rejected as problem:
            try:
                answer = await self._service.request("sqs", "get_queue_url", QueueName=name)
            except Missing:
                raise problem from None
        return str(answer["QueueUrl"])

    async def attach(self, arn: str, url: str) -> str:
        """Have an SNS topic send to a queue; the subscription's ARN."""
        queue = await self._queue_arn(url)
        allow = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": {"ArnEquals": {"aws:SourceArn": arn}},
        }
        policy = msgspec.json.encode({"Version": "2012-10-17", "Statement": [allow]}).decode()
        await self._service.request("sqs", "set_queue_attributes", QueueUrl=url, Attributes={"Policy": policy})
        parameters = {"TopicArn": arn, "Protocol": "sqs", "Endpoint": queue, "ReturnSubscriptionArn": True}
        raw = {"RawMessageDelivery": "true"}  # the message itself, not a description of it
        answer = await self._service.request("sns", "subscribe", **parameters, Attributes=raw)
        return str(answer["SubscriptionArn"])

    def _check_names(self, spec: TopicSpec) -> None:
        """Before anything is made."""
        for group in spec.groups:
            self._catalog.names.queue(spec.name, group)
        self._catalog.names.subscriber(spec.name, "")

    async def _make(self, spec: TopicSpec) -> None:
        topic, name = self._catalog.topic(spec.name), self._catalog.names.topic(spec.name)
        if not topic.groups:
            await self._catalog.find_sns(spec.name)
        if not spec.groups:
            topic.silent = True
            if self._options.sns != "none" and not topic.groups:
                await self._make_sns(spec.name, name, fifo=False)
            return
        suffix = self._catalog.names.suffix(spec.name)
        if topic.sns and (self._options.sns == "broadcast" or not topic.sns.endswith(f":{name}{suffix}")):
            raise InvalidInput(
                f"topic {spec.name!r} was made without groups, to be heard by all: give the group "
                f"{spec.groups[0]!r} a topic of its own, or delete the SNS topic {name!r} first"
            )
        if self._options.sns == "all":
            await self._make_sns(spec.name, name + suffix, bool(suffix))
        await gather(self._make_group(spec.name, group) for group in spec.groups)

    async def _make_sns(self, topic: str, name: str, fifo: bool) -> None:
        attributes = {"FifoTopic": "true", "FifoThroughputScope": "MessageGroup"} if fifo else {}
        answer = await self._service.request("sns", "create_topic", Name=name, Attributes=attributes)
        self._catalog.add_sns(topic, str(answer["TopicArn"]))

    async def _make_group(self, topic: str, group: str) -> None:
        known = self._catalog.topic(topic)
        url = known.groups.get(group)
        if url is None:
            attributes = {
                "VisibilityTimeout": str(VISIBILITY),
                "MessageRetentionPeriod": str(self._options.retention),
                "MaximumMessageSize": str(self._options.max_request),
            }
            if self._catalog.names.suffix(topic):  # and as fast as FIFO queues can be, by the last two
                attributes |= {
                    "FifoQueue": "true",
                    "DeduplicationScope": "messageGroup",
                    "FifoThroughputLimit": "perMessageGroupId",
                }
            url = await self.make_queue(self._catalog.names.queue(topic, group), attributes)
        if self._options.sns == "all":
            await self.attach(known.sns, url)
        self._catalog.add_queue(topic, group, url)

    async def _until_known(self, spec: TopicSpec, old: bool) -> None:
        """A topic's first groups are found by whoever publishes; a later one when all publishers have listed again,
        whoever made it.
        """
        groups = self._catalog.topic(spec.name).groups
        if self._options.sns == "all" or len(groups) < 2 or not (old or groups.keys() - {*spec.groups}):
            return
        made = await gather(self._made_at(groups[group]) for group in spec.groups)
        known_at = max(made, default=0.0) + 1 + self._options.refresh  # Amazon tells whole seconds
        seconds = known_at - self._clock() / 1_000_000
        await asyncio.sleep(min(max(0.0, seconds), 1 + self._options.refresh))

    async def _made_at(self, url: str) -> float:
        return float((await self._attributes(url, "CreatedTimestamp"))["CreatedTimestamp"])

    async def _queue_arn(self, url: str) -> str:
        return (await self._attributes(url, "QueueArn"))["QueueArn"]

    async def _attributes(self, url: str, *names: str) -> dict[str, str]:
        answer = await self._service.request("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=[*names])
        return msgspec.convert(answer["Attributes"], dict[str, str])
