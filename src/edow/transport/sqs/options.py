"""What an sqs:// URL may say."""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from edow.address import Address
from edow.errors import InvalidInput
from edow.model.topics import result_topic

OVERHEAD = 1024  # bytes of a message that are left for its attributes: a key that is no group id, a marker
SNS_BYTES = 262_144  # a message and a batch, in SNS
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")


class Order(Enum):
    """What a topic's queues keep in order."""

    NONE = "none"  # standard queues
    KEYS = "keys"  # the messages of a key
    ALL = "all"  # those, and the messages without a key among each other


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the URL and their defaults. Times in seconds, sizes in bytes."""

    endpoint: str = ""  # where SQS and SNS are, if not at Amazon's own place for the region
    profile: str = ""  # of the shared AWS configuration files
    session_token: str = ""  # of temporary credentials that are given as user and password
    prefix: str = ""  # before the name of every queue and topic, so that systems can share an account
    fifo: bool = True  # order by key; False: standard queues, without
    in_order: str = result_topic(0)[:-1] + "*"  # topics (patterns, by commas) that keep order without keys, too
    sns: Literal["broadcast", "all", "none"] = "broadcast"  # which topics go through SNS
    max_message_bytes: int = 262_144 - OVERHEAD  # the largest body; at most 1 MiB less the room for attributes
    concurrency: int = 16  # requests under way at once, polls apart
    receivers: int = 8  # polls under way at once for a queue with traffic
    poll: int = 20  # how long a poll waits at the server
    timeout: float = 15.0  # how long publish goes on trying
    refresh: float = 10.0  # after so long a publisher knows of a group that was added to its topic
    retention: int = 1_209_600  # how long a queue keeps a message

    @property
    def max_request(self) -> int:
        """The largest message with its attributes, and the largest batch."""
        return self.max_message_bytes + OVERHEAD

    def order(self, topic: str) -> Order:
        if any(fnmatchcase(topic, pattern.strip()) for pattern in self.in_order.split(",")):
            return Order.ALL
        return Order.KEYS if self.fifo else Order.NONE


def read_options(address: Address) -> Options:
    """Raises InvalidInput with the option, its value and what it may be."""
    if len(address.hosts) != 1 or not _REGION.fullmatch(address.hosts[0]) or address.path:
        raise InvalidInput(f"{address} names no region: write sqs://REGION, such as sqs://eu-west-1")
    if (address.user is None) != (address.password is None):
        raise InvalidInput(
            f"{address}: credentials are an access key id and a secret, sqs://ID:SECRET@REGION; "
            "without both the usual AWS configuration is used"
        )
    options, _ = address.settings(Options)
    _check(address, options)
    return options


def _check(address: Address, options: Options) -> None:
    limits: dict[str, tuple[float, float]] = {
        "max_message_bytes": (OVERHEAD, 1_048_576 - OVERHEAD),
        "concurrency": (1, 256),
        "receivers": (1, 64),
        "poll": (1, 20),
        "timeout": (0.1, 3600),
        "refresh": (0.1, 3600),
        "retention": (60, 1_209_600),
    }
    for name, (least, most) in limits.items():
        value = getattr(options, name)
        if not least <= value <= most:
            raise InvalidInput(f"{address}: {name}={value} is not between {least:,g} and {most:,g}")
    if options.endpoint and not re.match(r"https?://.", options.endpoint):
        raise InvalidInput(f"{address}: endpoint={options.endpoint!r} is no URL: write http://HOST:PORT")
    if options.session_token and address.user is None:
        raise InvalidInput(f"{address}: session_token goes with credentials in the URL, sqs://ID:SECRET@REGION")
