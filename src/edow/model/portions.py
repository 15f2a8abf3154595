"""What is too much for one call or one transaction, in portions: bounded in number and in bytes, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def portions(
    items: Iterable[Item],
    size: Callable[[Item], int],
    most: int,
    most_bytes: int,
    number: Callable[[Item], int] | None = None,
) -> Iterator[list[Item]]:
    """Each holds no more than `most` items and `most_bytes` of them, as `size` tells, or a single item that has more.
    An item counts once, or as often as `number` says. No item, no portion; it looks one item ahead.
    """
    portion: list[Item] = []
    count = used = 0
    for item in items:
        more, length = 1 if number is None else number(item), size(item)
        if portion and (count + more > most or used + length > most_bytes):
            yield portion
            portion, count, used = [], 0, 0
        portion.append(item)
        count += more
        used += length
    if portion:
        yield portion
