"""A message as Pub/Sub's: its key as ordering key and attribute, its size, and back."""

from __future__ import annotations

from typing import Any

from google.pubsub_v1.types import PubsubMessage

from edow.errors import InvalidInput
from edow.model.message import Message

KEY = "edow-key"  # attribute: the key, where the ordering key does not say it
EMPTY = "edow-empty"  # attribute: Pub/Sub refuses a message that has neither body nor attributes
UNKEYED = "edow-unkeyed"  # ordering key of messages without a key, in topics that keep their order
MOST_KEY_BYTES = 1_024  # of an ordering key and of an attribute


class Envelopes:
    """`ordering`: keys are ordering keys, too. Messages are raw protobuf: Google's wrappers take thrice as long."""

    def __init__(self, ordering: bool) -> None:
        self._ordering = ordering
        self._message: Any = PubsubMessage.pb()

    def ordering_key(self, message: Message, in_order: bool) -> str:
        """Messages with the same one are kept in order; empty: no order."""
        if not self._ordering:
            return ""
        return message.key or (UNKEYED if in_order or message.key is not None else "")

    def pack(self, message: Message, ordering_key: str) -> Any:
        packed = self._message(data=message.body, ordering_key=ordering_key)
        key = message.key
        if key is not None and (key in ("", UNKEYED) or key != ordering_key):
            packed.attributes[KEY] = key
        elif not message.body:
            packed.attributes[EMPTY] = "1"
        return packed


def key_of(packed: Any) -> str | None:
    """The key that a received message was published with. A foreign publisher's is its ordering key."""
    attributes = packed.attributes
    if KEY in attributes:
        key: str = attributes[KEY]
        return key
    ordering_key: str = packed.ordering_key
    return None if ordering_key in ("", UNKEYED) else ordering_key


def check(index: int, message: Message, most: int) -> None:
    """Raises InvalidInput for what Pub/Sub would not take."""
    if len(message.body) > most:
        raise InvalidInput(
            f"message {index} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
            "store the payload elsewhere and send a reference"
        )
    if message.key is None:
        return
    try:
        size = len(message.key.encode())
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"message {index} to {message.topic!r}: its key is no valid text: {problem}") from problem
    if size > MOST_KEY_BYTES:
        raise InvalidInput(
            f"message {index} to {message.topic!r} has a key of {size:,} bytes, Pub/Sub's limit is {MOST_KEY_BYTES:,}: "
            "use a shorter one, such as a hash of it"
        )
