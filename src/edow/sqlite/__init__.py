"""Layer 2, shared by the SQLite drivers of store and transport: one file, one writer, group commit and wake-ups.

It promises that what several callers ask at the same time becomes one transaction, and that whoever waits on a channel
is told after a commit, in this process or another. It knows nothing of executions or messages.
"""

from edow.sqlite.file import SqliteFile
from edow.sqlite.packed import Packed
from edow.sqlite.schema import Schema
from edow.sqlite.statements import Bulk
from edow.sqlite.wake import Watch

__all__ = ["Bulk", "Packed", "Schema", "SqliteFile", "Watch"]
