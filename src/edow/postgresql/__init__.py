"""Layer 2, shared by the PostgreSQL drivers of store and transport: connections, group commit, migrations, wake-ups.

It promises that what several callers ask at the same time becomes few transactions, that whoever waits on a channel is
told after a commit, in this process or another, and that every trouble of the server becomes one of EDOW's errors. It
knows nothing of executions or messages.
"""

from edow.postgresql.calls import Calls, encoded
from edow.postgresql.database import Database, connect
from edow.postgresql.group import Group
from edow.postgresql.hub import Watch
from edow.postgresql.schema import Schema

__all__ = ["Calls", "Database", "Group", "Schema", "Watch", "connect", "encoded"]
