"""The guides of docs/brokers: whose they are, and what their tables of settings say."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import msgspec

from tests.docs import markdown

PLACE = "docs/brokers"


class Guide(NamedTuple):
    """`settings`: the struct of the driver that holds the options of its URL; `connect`: the package that reads one."""

    name: str
    settings: str
    connect: str
    schemes: tuple[str, ...]

    @property
    def page(self) -> str:
        return f"{PLACE}/{self.name}.md"

    @property
    def options(self) -> dict[str, msgspec.structs.FieldInfo]:
        """Every option that the driver has, by name."""
        module, _, struct = self.settings.rpartition(".")
        fields = msgspec.structs.fields(getattr(importlib.import_module(module), struct))
        return {field.encode_name: field for field in fields}

    @property
    def table(self) -> dict[str, tuple[str, str]]:
        """Default and meaning as written, by option; a row may be about several."""
        found: dict[str, tuple[str, str]] = {}
        for names, default, meaning in markdown.rows(markdown.section(self.page, "URL")):
            for name in names.split(", "):
                found[name.strip("`")] = (default, meaning)
        return found


GUIDES = [
    Guide("kafka", "edow.transport.kafka.settings.Settings", "edow.transport.kafka", ("kafka",)),
    Guide("nats", "edow.transport.nats.options.NatsOptions", "edow.transport.nats", ("nats",)),
    Guide("postgresql", "edow.postgresql.settings.Settings", "edow.postgresql", ("postgresql",)),
    Guide("pubsub", "edow.transport.pubsub.options.PubsubOptions", "edow.transport.pubsub", ("pubsub",)),
    Guide("rabbitmq", "edow.transport.rabbitmq.options.Options", "edow.transport.rabbitmq", ("amqp", "amqps")),
    Guide("redis", "edow.transport.redis.settings.Settings", "edow.transport.redis", ("redis", "rediss")),
    Guide("sqs", "edow.transport.sqs.options.Options", "edow.transport.sqs", ("sqs",)),
]
OPTIONS = [(guide, option) for guide in GUIDES for option in guide.options]
