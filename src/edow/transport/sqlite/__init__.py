"""The embedded transport: queues in one SQLite file, which may be the store's. See `edow.transport.contract`."""

from edow.transport.sqlite.transport import SqliteTransport

__all__ = ["SqliteTransport"]
