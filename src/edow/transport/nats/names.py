"""From EDOW's names to the broker's and back.

A topic is a stream and a subject of that name; messages with a key go to `topic.@.N`, N being the key's partition.
A group is a durable consumer, or more: see `edow.transport.nats.groups`. Letters that NATS does not allow become `=XX`;
since `@`, `-` and `=` itself do too, no two names meet.
"""

from __future__ import annotations

import re
import zlib
from typing import NamedTuple
from urllib.parse import quote, unquote

from edow.errors import InvalidInput

LONGEST = 200  # a stream's name is a directory's; a consumer's, with what is added to it, too
KEY = "Edow-Key"  # header: the partition key, percent-encoded

_ODD = re.compile(r"[^A-Za-z0-9_]")
_CONSUMER = re.compile(r"(.+)-([kx])(\d+)")


class Topic(NamedTuple):
    """`subject` is the one for messages without a key."""

    name: str
    subject: str
    stream: str
    partitions: int


class ConsumerName(NamedTuple):
    """`role`: "" for the group's first consumer, "k" for a partition's, "x" for a reader's in mode exclusive."""

    group: str
    role: str = ""
    number: int = 0

    def __str__(self) -> str:
        return f"{self.group}-{self.role}{self.number}" if self.role else self.group


def parse_consumer(name: str) -> ConsumerName:
    """The reverse of `str`. Consumers that are not EDOW's are groups of their own."""
    match = _CONSUMER.fullmatch(name)
    return ConsumerName(match[1], match[2], int(match[3])) if match else ConsumerName(name)


def subject_of(prefix: str, topic: str) -> str:
    """Where messages without a key are published. Raises InvalidInput for a topic without a name, or too long a one."""
    subject = ".".join(_encode(token) or "=" for token in (prefix + topic).split("."))
    return _checked("topic", topic, subject)


def stream_of(subject: str) -> str:
    """A stream's name may not have dots."""
    return subject.replace("_", "=5F").replace(".", "_")


def group_name(group: str) -> str:
    """Raises InvalidInput for a group without a name, or too long a one."""
    return _checked("group", group, _encode(group))


def group_of(name: str) -> str:
    """The reverse of `group_name`."""
    return re.sub(
        r"(?:=[0-9A-F]{2})+", lambda odd: bytes.fromhex(odd[0].replace("=", "")).decode("utf-8", "replace"), name
    )


def partition_subject(subject: str, partition: int | str) -> str:
    return f"{subject}.@.{partition}"


def partition_of(key: str, partitions: int) -> int:
    """The same in every process and version."""
    return zlib.crc32(key.encode("utf-8", "surrogatepass")) % partitions


def encode_key(key: str) -> str:
    """As a header's value, which has neither line breaks nor space at its ends."""
    return quote(key, safe="", errors="surrogatepass")


def decode_key(value: str) -> str:
    """The reverse. What others have written there is some key, too."""
    try:
        return unquote(value, errors="surrogatepass")
    except UnicodeDecodeError:
        return value


def _encode(text: str) -> str:
    return _ODD.sub(lambda odd: "".join(f"={byte:02X}" for byte in odd[0].encode("utf-8", "surrogatepass")), text)


def _checked(what: str, given: str, encoded: str) -> str:
    if not given:
        raise InvalidInput(f"a {what} needs a name, not {given!r}")
    if len(encoded) > LONGEST:
        raise InvalidInput(f"{what} {given!r} is too long for NATS: {len(encoded)} bytes of {LONGEST}, prefix included")
    return encoded
