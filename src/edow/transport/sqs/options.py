"""What an sqs:// URL may say."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec

from edow.address import Address
from edow.errors import InvalidInput
from edow.model.topics import result_topic

OVERHEAD = 1024  # bytes of a message that are left for its attributes: a key that is no group id, a marker
Order = Literal["none", "keys", "all"]  # what a topic's queues keep in order: messages of a key; those without, too
_REGION = re.compile(r"[a-z]{2,}(-[a-z0-9]+)+")
_RESULTS = result_topic(0)[:-1]


class Options(msgspec.Struct, frozen=True):
    """The settings of the URL and their defaults. Times in seconds, sizes in bytes."""

    endpoint: Annotated[str, msgspec.Meta(pattern="^$|^https?://.")] = ""  # instead of Amazon's own for the region
    profile: str = ""  # of the shared AWS configuration files
    session_token: str = ""  # of temporary credentials that are given as user and password
    prefix: str = ""  # before the name of every queue and topic, so that systems can share an account
    fifo: bool = True  # order by key; False: standard queues, without
    sns: Literal["broadcast", "none"] = "broadcast"  # what goes through SNS
    max_message_bytes: Annotated[int, msgspec.Meta(ge=OVERHEAD, le=1_048_576 - OVERHEAD)] = 262_144 - OVERHEAD
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 16  # requests of a verb under way at once, polls apart
    receivers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 8  # polls under way at once for a queue with traffic
    poll: Annotated[int, msgspec.Meta(ge=1, le=20)] = 20  # how long a poll waits at the server
    timeout: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 15.0  # how long publish may take
    refresh: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = (
        10.0  # how long publishers believe in the groups they know
    )
    retention: Annotated[int, msgspec.Meta(ge=60, le=1_209_600)] = 1_209_600  # how long a queue keeps a message

    @property
    def max_request(self) -> int:
        """The largest message with its attributes, and the largest batch."""
        return self.max_message_bytes + OVERHEAD

    def order(self, topic: str) -> Order:
        """All of the results, which are read in mode exclusive."""
        return "all" if topic.startswith(_RESULTS) else "keys" if self.fifo else "none"


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
    if options.session_token and address.user is None:
        raise InvalidInput(f"{address}: session_token goes with credentials in the URL, sqs://ID:SECRET@REGION")
    return options
