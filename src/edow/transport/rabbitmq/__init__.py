"""RabbitMQ: an exchange for each topic, quorum queues for each group. See `edow.transport.contract`."""

from edow.transport.rabbitmq.transport import RabbitTransport, connect

__all__ = ["RabbitTransport", "connect"]
