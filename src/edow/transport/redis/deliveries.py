"""A message of a Redis stream in a subscriber's hands."""

from __future__ import annotations

from collections.abc import Sequence

from edow.transport.again import OrderedDelivery


class RedisDelivery(OrderedDelivery, eq=False):
    """`token` is the stream's id of the message, `queue` the stream, `raw_key` the key as it stands there."""

    queue: str = ""
    raw_key: bytes | None = None

    @property
    def id(self) -> bytes:
        token = self.token
        assert isinstance(token, bytes)
        return token

    @property
    def order(self) -> tuple[int, ...]:
        return order_of(self.id)


def order_of(token: bytes) -> tuple[int, int]:
    """Of ids of one stream, which came first."""
    time, _, number = token.partition(b"-")
    return int(time), int(number)


def by_queue(deliveries: Sequence[RedisDelivery]) -> dict[str, list[RedisDelivery]]:
    """In the order given."""
    found: dict[str, list[RedisDelivery]] = {}
    for delivery in deliveries:
        found.setdefault(delivery.queue, []).append(delivery)
    return found


def encode_key(key: str | None) -> bytes:
    """As scripts know it: nothing for no key."""
    return b"" if key is None else b"k" + key.encode(errors="surrogatepass")


def received(queue: str, topic: str, token: bytes, count: int, key: bytes | None, body: bytes) -> RedisDelivery:
    """From what Redis has sent."""
    return RedisDelivery(topic, body, decode_key(key), count, token, queue=queue, raw_key=key)


def decode_key(key: bytes | None) -> str | None:
    """Bytes that are no text become some: such a key was not published by us."""
    if key is None:
        return None
    try:
        return key.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return key.decode(errors="backslashreplace")
