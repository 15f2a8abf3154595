"""How much is published at once: what every transport says of a message that is too large, and batches in pieces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edow.errors import InvalidInput
from edow.model.message import Message


def check_sizes(messages: Sequence[Message], most: int) -> None:
    """Raises InvalidInput for the first body of more bytes than `most`."""
    for index, message in enumerate(messages):
        if len(message.body) > most:
            raise InvalidInput(
                f"message {index} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
                "store the payload elsewhere and send a reference"
            )


def pieces(messages: Sequence[Message], most: int, most_bytes: int) -> Iterator[tuple[int, Sequence[Message]]]:
    """The batch in pieces that a server can take at once, with the position of the first message of each."""
    first = size = 0
    for index, message in enumerate(messages):
        if index > first and (index - first >= most or size + len(message.body) > most_bytes):
            yield first, messages[first:index]
            first, size = index, 0
        size += len(message.body)
    if messages:
        yield first, messages[first:]
