"""How much is published at once: what every transport says of a message that is too large, or has a key that cannot be,
and batches in pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edow.errors import InvalidInput
from edow.model.message import Message
from edow.model.portions import portions

OR_ELSE = ", or raise max_message_bytes in the URL"  # where that is an option


def check_sizes(messages: Sequence[Message], most: int, or_else: str = "") -> None:
    """Raises InvalidInput for the first body of more bytes than `most`."""
    for index, message in enumerate(messages):
        if len(message.body) > most:
            raise InvalidInput(
                f"message {index} to {message.topic!r} has {len(message.body):,} bytes, the limit is {most:,}: "
                f"store the payload elsewhere and send a reference{or_else}"
            )


def key_of(index: int, message: Message, most: int, errors: str = "strict") -> bytes | None:
    """The key in bytes, `most` of them at most; `errors` as in `str.encode`. Raises InvalidInput, with the index."""
    if message.key is None:
        return None
    what = f"message {index} to {message.topic!r} has a key"
    try:
        key = message.key.encode("utf-8", errors)
    except UnicodeEncodeError as problem:
        raise InvalidInput(f"{what} that is no text: {message.key!r}") from problem
    if len(key) > most:
        raise InvalidInput(f"{what} over the limit of {most:,} bytes")
    return key


def pieces(messages: Sequence[Message], most: int, most_bytes: int) -> Iterator[tuple[int, Sequence[Message]]]:
    """The batch in pieces that a server can take at once, with the position of the first message of each."""
    first = 0
    for piece in portions(messages, lambda message: len(message.body), most, most_bytes):
        yield first, piece
        first += len(piece)
