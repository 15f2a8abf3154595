"""What every transport says of a message that is too large for its broker."""

from __future__ import annotations

from collections.abc import Sequence

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
