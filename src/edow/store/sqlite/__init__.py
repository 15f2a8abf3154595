"""The embedded store: one SQLite file, which may hold the transport as well. See `edow.store.contract`."""

from edow.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
