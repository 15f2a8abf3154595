"""What the processes of `test_outbox` run: a workflow whose only effect is a row."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

import edow


@edow.task
def note(number: int) -> int:
    with closing(sqlite3.connect(os.environ["NOTES"], timeout=30)) as notes, notes:
        notes.execute("INSERT INTO notes VALUES (?)", (number,))
    return number


@edow.workflow
async def follow_up(number: int) -> int:
    return await note(number)
