"""What a `pubsub://` URL says."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from edow.address import Address
from edow.errors import InvalidInput

_PROJECT = re.compile(r"[a-z0-9.:-]+")
_HOST_PORT = re.compile(r"[^\s:/]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")


class PubsubOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of the URL. Everything has a default."""

    emulator: str = ""  # HOST:PORT of Google's emulator or of pstest; spoken to in plain text and without credentials
    endpoint: str = ""  # HOST[:PORT] of a region, such as europe-west1-pubsub.googleapis.com; default: the nearest
    credentials: str = ""  # a service account's key file; default: Google's own search
    prefix: str = ""  # in front of every topic's name, so that several systems can share a project
    exactly_once: bool = False  # subscriptions are made with exactly-once delivery: acks are certain, and slower
    retention_days: Annotated[float, Meta(ge=1 / 144, le=31)] = 7.0  # for what nobody acknowledges
    pulls: Annotated[int, Meta(ge=1, le=20)] = 2  # requests that wait for messages, for each topic a subscriber reads
    prefetch: Annotated[int, Meta(ge=1, le=1_000_000)] = 2_000  # messages a subscriber holds beyond those handed out
    timeout_seconds: Annotated[float, Meta(ge=0.1, le=600)] = 10.0  # without an answer: it is away

    def __post_init__(self) -> None:
        if self.emulator and not _HOST_PORT.fullmatch(self.emulator):
            raise ValueError(f"emulator={self.emulator} is not HOST:PORT, such as 127.0.0.1:8085")
        if self.emulator and (self.endpoint or self.credentials):
            raise ValueError("an emulator has no endpoint and takes no credentials: leave those options out")

    @property
    def target(self) -> str:
        """Where the channel leads."""
        endpoint = self.emulator or self.endpoint or "pubsub.googleapis.com"
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
