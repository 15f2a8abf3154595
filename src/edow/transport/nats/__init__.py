"""The NATS JetStream transport, scheme nats://. See `edow.transport.contract` and docs/brokers/nats.md."""

from edow.transport.nats.transport import NatsTransport, connect

__all__ = ["NatsTransport", "connect"]
