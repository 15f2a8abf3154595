"""The PostgreSQL store: one schema holds all there is to know. See `edow.store.contract`."""

from edow.store.postgresql.store import PostgresStore, connect

__all__ = ["PostgresStore", "connect"]
