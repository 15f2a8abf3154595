"""Keys of rows: ids as they are, unless they are longer than an index can hold."""

from __future__ import annotations

from hashlib import blake2b

LONGEST = 500  # characters of a key; four bytes each are well within what an index entry can have
BEGINNING = 400  # of an id that is shortened, so that it is still found by how it begins


def key_of(id: str) -> str:
    """The id itself, or its beginning and a hash of it all."""
    if len(id) <= LONGEST:
        return id
    return f"{id[:BEGINNING]}…{blake2b(id.encode(), digest_size=32).hexdigest()}"


def name_of(id: str) -> str | None:
    """The id, where its key is not enough to know it."""
    return id if len(id) > LONGEST else None


def printable(text: str) -> str:
    """PostgreSQL's text has no zero characters."""
    return text.replace("\0", "�") if "\0" in text else text
