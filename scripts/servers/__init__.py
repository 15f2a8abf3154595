"""Real servers for development and tests, one module each.

A test that must stop, kill or misconfigure a server starts one of its own:

    from scripts.servers import private, redis

    with private(redis) as server:
        ... server.url ...
        server.kill()
        server.start()
"""

from . import elasticmq, kafka, moto, nats, postgres, pubsub, rabbitmq, redis
from .box import PASSWORD, Box, Server
from .services import private
from .trouble import Trouble

__all__ = [
    "PASSWORD",
    "Box",
    "Server",
    "Trouble",
    "elasticmq",
    "kafka",
    "moto",
    "nats",
    "postgres",
    "private",
    "pubsub",
    "rabbitmq",
    "redis",
]
