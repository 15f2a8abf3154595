"""Removes what one run has left on a server: everything of a schema or prefix that was this run's alone.

Its processes have ended by then. Knows how each driver names things, and nothing of what they mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from edow.address import Address
from edow.model import topics

BATCH = 1000
SHARDS = 16  # result topics of a store, at most, unless its URL says more


async def erase(url: str, task_topics: Iterable[str]) -> None:
    """`task_topics`: those that the run has used, for brokers that do not tell what they have."""
    address = Address(url)
    shards = max(SHARDS, int(address.options.get("shards", "0")))
    names = [*map(topics.task_topic, task_topics), *map(topics.result_topic, range(shards))]
    await ERASERS[address.scheme](address, [*names, topics.DEAD, topics.CONTROL, topics.ROLL])


async def _postgresql(address: Address, names: list[str]) -> None:
    import asyncpg

    from edow.postgresql.settings import settings_of

    settings, url = settings_of(address)
    connection = await asyncpg.connect(url, timeout=settings.connect_timeout)
    try:
        await connection.execute("SET client_min_messages = warning")
        await connection.execute(f'DROP SCHEMA IF EXISTS "{settings.schema}" CASCADE')
    finally:
        await connection.close()


async def _kafka(address: Address, names: list[str]) -> None:
    from confluent_kafka.admin import AdminClient

    from edow.transport.kafka.settings import Clients

    clients = Clients(address)
    prefix, seconds = clients.settings.prefix, clients.settings.timeout
    admin = AdminClient(clients.admin)

    def run() -> None:
        made = [name for name in admin.list_topics(timeout=seconds).topics if name.startswith(prefix)]
        groups = admin.list_consumer_groups(request_timeout=seconds).result().valid
        left = [group.group_id for group in groups if group.group_id.startswith(prefix)]
        for future in (admin.delete_topics(made) if made else {}).values():
            future.result()
        for future in (admin.delete_consumer_groups(left) if left else {}).values():
            future.exception()  # some may have members that were killed a moment ago; the broker forgets empty ones

    await asyncio.to_thread(run)


async def _rabbitmq(address: Address, names: list[str]) -> None:
    from edow.transport.rabbitmq.link import Link
    from edow.transport.rabbitmq.names import Names
    from edow.transport.rabbitmq.options import read

    server = read(address)
    named, link = Names(server.options), Link(server, "erasing")
    try:
        channel = await link.channel()
        await channel.exchange_delete(named.layout)
        for name in names:
            await channel.exchange_delete(named.exchange(name))
            for group in (topics.WORKERS, topics.ORCHESTRATORS):
                await channel.queue_delete(named.asking(name, group))
                for key in named.routing_keys(name):
                    await channel.queue_delete(named.queue(name, group, key))
    finally:
        await link.close()


async def _nats(address: Address, names: list[str]) -> None:
    from edow.transport.nats.link import Link
    from edow.transport.nats.names import stream_of, subject_of
    from edow.transport.nats.options import read

    options = read(address)
    link = Link(address, options)
    await link.open()
    try:
        prefix = stream_of(subject_of(options.prefix, "x")).removesuffix("x")
        for info in await link.js.streams_info():
            if info.config.name and info.config.name.startswith(prefix):
                await link.js.delete_stream(info.config.name)
    finally:
        await link.close()


async def _redis(address: Address, names: list[str]) -> None:
    from edow.transport.redis.link import Link
    from edow.transport.redis.settings import read_settings, root

    settings = read_settings(address)
    link = Link(address, settings)
    link.open()
    cursor: object = b"0"
    try:
        while True:
            [answer] = await link.ask(("SCAN", _bytes(cursor), "MATCH", f"{root(settings)}*", "COUNT", BATCH))
            assert isinstance(answer, list)
            cursor, keys = answer
            if isinstance(keys, list) and keys:
                await link.ask(("UNLINK", *map(_bytes, keys)))
            if cursor == b"0":
                return
    finally:
        await link.close()


async def _pubsub(address: Address, names: list[str]) -> None:
    from google.pubsub_v1 import types

    from edow.transport.pubsub.link import Link
    from edow.transport.pubsub.options import options_of

    project, options = options_of(address)
    link, place = Link(address, project, options), f"projects/{project}"

    async def erase_all(service: str, what: str) -> None:
        token, made = "", []
        while True:
            request = getattr(types, f"List{what}sRequest").pb()(project=place, page_token=token)
            answer = await link.call(f"{service}/List{what}s", request)
            page = getattr(types, f"List{what}sResponse").pb().FromString(answer)
            made += [each.name for each in getattr(page, f"{what.lower()}s")]
            if not (token := page.next_page_token):
                break
        for name in made:
            if name.startswith(f"{place}/{what.lower()}s/{options.prefix}"):
                request = getattr(types, f"Delete{what}Request").pb()(**{what.lower(): name})
                await link.call(f"{service}/Delete{what}", request)

    await link.open()
    try:
        await erase_all("Subscriber", "Subscription")
        await erase_all("Publisher", "Topic")
    finally:
        await link.close()


async def _sqs(address: Address, names: list[str]) -> None:
    from edow.transport.sqs.options import read_options
    from edow.transport.sqs.service import Service
    from edow.transport.sqs.topics import Names

    options = read_options(address)
    named = Names(options)
    service = Service(address, options)
    await service.open(named.prefix)
    try:
        while urls := (await service.call("sqs", "list_queues", QueueNamePrefix=named.prefix)).get("QueueUrls"):
            for url in urls:
                await service.call("sqs", "delete_queue", QueueUrl=url)
        if options.sns != "none":
            pages = service.pages("sns", "list_topics")
            topics = [str(topic["TopicArn"]) async for page in pages for topic in page["Topics"]]
            for topic in topics:
                if topic.rpartition(":")[2].startswith(named.prefix):
                    await service.call("sns", "delete_topic", TopicArn=topic)
    finally:
        await service.close()


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value


ERASERS: dict[str, Callable[[Address, list[str]], Awaitable[None]]] = {
    "postgresql": _postgresql,
    "kafka": _kafka,
    "amqp": _rabbitmq,
    "amqps": _rabbitmq,
    "nats": _nats,
    "redis": _redis,
    "rediss": _redis,
    "pubsub": _pubsub,
    "sqs": _sqs,
}
