"""The Kafka transport, over librdkafka. See `edow.transport.contract`, and docs/brokers/kafka.md for its users."""

from edow.transport.kafka.transport import KafkaTransport, connect

__all__ = ["KafkaTransport", "connect"]
