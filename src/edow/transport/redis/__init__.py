"""Redis Streams: a stream for each topic and consumer group, and scripts that know whose turn it is.

See `edow.transport.contract`. What is kept in Redis is told in lua/common.lua; how to run it, in docs/brokers/redis.md.
"""

from __future__ import annotations

from collections.abc import Callable

from edow.address import Address
from edow.transport.redis.settings import read_settings
from edow.transport.redis.transport import RedisTransport


def connect(address: Address, clock: Callable[[], int]) -> RedisTransport:
    """The transport that a redis:// or rediss:// URL names, not open yet. `clock` is not needed: leases and delays are
    measured by the server's own clock, which all members share.

    Raises InvalidInput for an option that there is not, or a value that it cannot have.
    """
    return RedisTransport(address, read_settings(address))
