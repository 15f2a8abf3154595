"""What a `pubsub://` URL says."""

from __future__ import annotations

import re

import msgspec

from edow.address import Address
from edow.errors import InvalidInput
from edow.model import topics

REQUEST_BYTES = 10_000_000  # the service's limit for one publish request
ROOM_BYTES = 4_096  # of a request, for everything but the body: names, key, attributes

_PROJECT = re.compile(r"[a-z0-9.:-]+")
_HOST_PORT = re.compile(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


class PubsubOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the URL. Everything has a default."""

    emulator: str = ""  # HOST:PORT of Google's emulator or of pstest; spoken to in plain text and without credentials
    endpoint: str = ""  # HOST[:PORT] of a region, such as europe-west1-pubsub.googleapis.com; default: the nearest
    credentials: str = (
        ""  # a service account's key file; default: Google's own search (application default credentials)
    )
    prefix: str = ""  # in front of every topic's name, so that several systems can share a project
    ordering: bool = True  # subscriptions keep the order of each key; without, keys mean nothing and all is faster
    in_order: str = topics.result_topic(0)[:-1] + "*"  # topics (patterns, by commas) that keep order without keys, too
    exactly_once: bool = False  # subscriptions are made with exactly-once delivery: acks are certain, and slower
    retention_days: float = 7.0  # how long a subscription keeps what nobody acknowledges
    pulls: int = 2  # requests for messages that wait at the service, for each topic that a subscriber reads
    prefetch: int = 2_000  # messages that a subscriber may hold beyond those handed out
    timeout_seconds: float = 10.0  # after so long without an answer, publish, ack and all else say that it is away
    request_bytes: int = REQUEST_BYTES  # largest publish request; emulators may take less

    def __post_init__(self) -> None:
        _between("retention_days", self.retention_days, 600 / 86_400, 31)
        _between("pulls", self.pulls, 1, 20)
        _between("prefetch", self.prefetch, 1, 1_000_000)
        _between("timeout_seconds", self.timeout_seconds, 0.1, 600)
        _between("request_bytes", self.request_bytes, 2 * ROOM_BYTES, REQUEST_BYTES)
        if self.emulator and not _HOST_PORT.fullmatch(self.emulator):
            raise ValueError(f"emulator={self.emulator} is not HOST:PORT, such as 127.0.0.1:8085")
        if self.emulator and (self.endpoint or self.credentials):
            raise ValueError("an emulator has no endpoint and takes no credentials: leave those options out")

    @property
    def max_message_bytes(self) -> int:
        return self.request_bytes - ROOM_BYTES

    @property
    def target(self) -> str:
        """Where the channel leads."""
        if self.emulator:
            return self.emulator
        endpoint = self.endpoint or "pubsub.googleapis.com"
        return endpoint if ":" in endpoint else f"{endpoint}:443"


def options_of(address: Address) -> tuple[str, PubsubOptions]:
    """The project and the options. Raises InvalidInput."""
    options, _ = address.settings(PubsubOptions)
    if address.user is not None or address.path or len(address.hosts) != 1:
        raise InvalidInput(
            f"{address}: write pubsub://PROJECT?option=value; a service account's key file is given as credentials=FILE"
        )
    (project,) = address.hosts
    if not _PROJECT.fullmatch(project):
        raise InvalidInput(f"{address}: {project!r} is not the id of a Google Cloud project, such as my-project-123")
    return project, options


def _between(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}={value:g} is not between {least:g} and {most:g}")
