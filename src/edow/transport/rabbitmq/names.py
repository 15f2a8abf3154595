"""Which exchange and which queues a topic has. Nothing here talks to the server.

A topic is a direct exchange of its name. A group has a queue for messages without a key, which its members share, and
`partitions` queues for those with one: a key is always in the same, and one member at a time reads it (the server's
single active consumer), which is what keeps a key's messages in order. Topics that one subscriber alone reads, the
results of a shard, need no partitions: their keys are in order anyway.
"""

from __future__ import annotations

import re
from zlib import crc32

from pamqp.common import FieldTable

from edow.errors import InvalidInput
from edow.transport.rabbitmq.options import Options

LONGEST_NAME = 255  # bytes of a name, the protocol's
READ_BY_ONE = "edow.results."
NO_KEY = ""  # routing key of messages without a key
KEY_HEADER = "edow-key"  # the key itself; the routing key tells its partition alone
_STRANGE = re.compile(r"[^A-Za-z0-9_.@#,/ -]+")

# More deliveries than any message sees. A limit there must be: without one RabbitMQ 3 puts what is given back behind
# the rest, and RabbitMQ 4 drops it after 20. When it is enough is EDOW's to decide.
_DELIVERY_LIMIT = 1_000_000_000
# How long a message may be in hand before the server takes it away: 46 days, which its timers can count. A task takes
# as long as it takes. Heeded from RabbitMQ 3.12 on; before, `consumer_timeout` in `rabbitmq.conf` is all there is.
_CONSUMER_TIMEOUT_MS = 4_000_000_000


class Names:
    """Names within the prefix. Raises InvalidInput for those that the server does not take."""

    def __init__(self, options: Options) -> None:
        self._options = options
        # An exchange that nothing is published to remembers how many partitions there are, in the one argument that
        # the server compares when it is declared again.
        self.layout = f"{options.prefix}:layout"
        self.layout_arguments: FieldTable = {"alternate-exchange": f"partitions={options.partitions}"}

    def exchange(self, topic: str) -> str:
        return self._checked("topic", topic, self._options.prefix + _escape(topic))

    def routing_key(self, topic: str, key: str | None) -> str:
        """By which a message gets into the queue of its key."""
        count = self._partitions(topic)
        return NO_KEY if key is None or not count else f"k{crc32(key.encode()) % count}"

    def routing_keys(self, topic: str) -> list[str]:
        """All of a topic, that of messages without a key first."""
        return [NO_KEY, *(f"k{number}" for number in range(self._partitions(topic)))]

    def queue(self, topic: str, group: str, routing_key: str = NO_KEY) -> str:
        end = f":{routing_key}" if routing_key else ""
        return self._checked("group", group, f"{self._options.prefix}{_escape(topic)}:{_escape(group)}{end}")

    def asking(self, topic: str, group: str) -> str:
        """A queue that is always empty. Who reads it is in need of messages of the group."""
        return self.queue(topic, group, "asking")

    def queue_arguments(self, routing_key: str) -> FieldTable:
        """They never depend on the server's version: a queue keeps them when the server is upgraded."""
        options = self._options
        arguments: FieldTable = {"x-queue-type": options.queue}
        if options.queue == "quorum":
            arguments |= {"x-delivery-limit": _DELIVERY_LIMIT, "x-consumer-timeout": _CONSUMER_TIMEOUT_MS}
            if options.replicas:
                arguments["x-quorum-initial-group-size"] = options.replicas
        if routing_key:
            arguments["x-single-active-consumer"] = True
        return arguments

    def _partitions(self, topic: str) -> int:
        return 0 if topic.startswith(READ_BY_ONE) else self._options.partitions

    def _checked(self, what: str, name: str, full: str) -> str:
        if not name:
            raise InvalidInput(f"a {what} needs a name, not {name!r}")
        if full.startswith("amq."):
            raise InvalidInput(
                f"{what} {name!r}: names that begin with 'amq.' are RabbitMQ's: use another, or a prefix"
            )
        if len(full.encode()) > LONGEST_NAME:
            raise InvalidInput(f"{what} {name!r}: {full!r} is longer than the {LONGEST_NAME} bytes RabbitMQ allows")
        return full


def _escape(name: str) -> str:
    """Reversible: what the protocol does not allow in names, and the colon that separates topic, group and partition,
    as `+` and two hexadecimal digits for each byte.
    """
    return _STRANGE.sub(lambda found: "".join(f"+{byte:02X}" for byte in found[0].encode()), name)
