"""Where a process says what it waits for, so that others wake it when there is something and only then.

A board is a small file, mapped into the memory of every process on the database. Each watch of the process has two
bytes on it: `pending`, set by whoever put something there, and `armed`, set by the watch while it sleeps. A commit thus
costs a store into memory for somebody awake, and one datagram for somebody asleep. The board's owner holds a lock on
its file; the kernel lets go of it when the process dies, however it dies.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Iterable, Mapping

import msgspec

if sys.platform != "win32":
    import fcntl

SLOTS = 1024  # watches of one process
PENDING, ARMED = 0, SLOTS
STATE = 2 * SLOTS  # one 64-bit word: version, half, length of the names
ADDRESS = STATE + 64
ADDRESS_BYTES = 512
NAMES = ADDRESS + ADDRESS_BYTES
NAMES_BYTES = 64 * 1024  # twice: the names in force, and those being written
SIZE = NAMES + 2 * NAMES_BYTES

_WORD = struct.Struct("=Q")
_names = msgspec.json.Decoder(dict[str, list[int]])


class Board:
    """One process's board; `names` tells which slots are for a channel."""

    def __init__(self, path: str, file: int) -> None:
        self.path = path
        self.map = mmap.mmap(file, SIZE)
        self.address = self.map[ADDRESS : ADDRESS + ADDRESS_BYTES].rstrip(b"\0").decode()
        self._state = 0
        self._channels: Mapping[str, list[int]] = {}

    def slots(self, channels: Iterable[str]) -> set[int]:
        """Slots of whoever waits on one of the channels."""
        (state,) = _WORD.unpack_from(self.map, STATE)
        if state != self._state:
            self._read_names()
        known = self._channels
        return {slot for channel in channels for slot in known.get(channel, ())}

    def mark(self, slots: set[int]) -> bool:
        """Leave word in the slots; True if one of them sleeps and nobody has told it yet."""
        board, asleep = self.map, False
        for slot in slots:
            board[PENDING + slot] = 1
            if board[ARMED + slot]:
                board[ARMED + slot] = 0
                asleep = True
        return asleep

    def write_names(self, channels: Mapping[str, list[int]]) -> None:
        """Owner only. Readers see the old names or the new ones."""
        text = msgspec.json.encode(channels)[:NAMES_BYTES]
        (state,) = _WORD.unpack_from(self.map, STATE)
        version, half = (state >> 33) + 1, 1 - (state >> 32 & 1)
        start = NAMES + half * NAMES_BYTES
        self.map[start : start + len(text)] = text
        _WORD.pack_into(self.map, STATE, (version & 0x7FFFFFFF) << 33 | half << 32 | len(text))

    def close(self) -> None:
        self.map.close()

    def _read_names(self) -> None:
        for _ in range(3):
            (state,) = _WORD.unpack_from(self.map, STATE)
            start = NAMES + (state >> 32 & 1) * NAMES_BYTES
            text = self.map[start : start + (state & 0xFFFFFFFF)]
            if _WORD.unpack_from(self.map, STATE)[0] == state:
                self._state = state
                self._channels = _names.decode(text) if text else {}
                return


def create(path: str, address: str) -> tuple[Board, int]:
    """This process's own board, and the open file that holds its lock."""
    file = os.open(f"{path}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.ftruncate(file, SIZE)
    os.pwrite(file, address.encode(), ADDRESS)
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_EX)
    os.rename(f"{path}.new", path)  # nobody sees it half made
    return Board(path, file), file


def join(path: str) -> Board | None:
    """Another process's board; None if it has gone, or died (then its traces are removed)."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        board = Board(path, file)
        if _is_dead(file):
            remove(board)
            return None
        return board
    except (OSError, ValueError):
        return None
    finally:
        os.close(file)


def remove(board: Board) -> None:
    """Take away what a process has left behind."""
    for path in (board.path, board.address):
        try:
            os.unlink(path)
        except OSError:
            pass
    board.close()


def _is_dead(file: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
