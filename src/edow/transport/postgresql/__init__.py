"""The PostgreSQL transport: queues in a schema, which may be the store's. See `edow.transport.contract`."""

from edow.transport.postgresql.transport import PostgresTransport, connect

__all__ = ["PostgresTransport", "connect"]
