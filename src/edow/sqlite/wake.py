"""Wake-ups: after a commit, whoever waits on one of its channels goes on; at once, in this process or another.

Between processes it takes a datagram, sent only to processes that sleep on one of the channels (see `board`). A
wake-up is never lost between two waits. What could be lost all the same (a full socket, a system without Unix sockets)
is found by waiters' own polling about once a second, or here every 20 ms where there are no sockets.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
from collections.abc import Sequence
from threading import Event, Lock, Thread
from time import time_ns

from edow.errors import InvalidInput
from edow.sqlite import board as boards
from edow.sqlite.board import ARMED, PENDING, SLOTS, Board

POLL_SECONDS = 0.02  # without sockets, while somebody waits
LONGEST_ADDRESS = 100  # bytes in the path of a Unix socket, a little less than any system allows
SETTLED_NS = 50_000_000  # a directory changed more recently may change again without a new time stamp


class Watch:
    """Waits for any of its channels. One waiter at a time."""

    def __init__(self, hub: Hub, channels: Sequence[str], slot: int) -> None:
        self.channels = tuple(channels)
        self.slot = slot
        self._hub = hub
        self._board: Board | None = hub.board
        self._pending = False
        self._closed = False
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    async def wait(self, seconds: float) -> bool:
        """True when notified since the last wait, False when `seconds` have passed or the watch was closed."""
        if self._closed or self.take():
            return not self._closed
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._waiter = (loop, future)
        self._hub.arm(self)
        if self.take():  # it came while we were lying down
            self._waiter = None
            return True
        timer = loop.call_later(max(0.0, seconds), _finish, future)
        try:
            await future
        finally:
            timer.cancel()
            self._waiter = None
        return self.take() and not self._closed

    def take(self) -> bool:
        """Whether there was a notification; forgets it."""
        slot = PENDING + self.slot
        if self._pending or (self._board is not None and self._board.map[slot]):
            self._pending = False
            if self._board is not None:
                self._board.map[slot] = 0
            return True
        return False

    def poke(self) -> None:
        """Notify this watch alone. Any thread."""
        self._pending = True
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            loop, future = waiter
            try:
                loop.call_soon_threadsafe(_finish, future)
            except RuntimeError:
                pass  # the loop is closed: nobody waits any more

    def close(self) -> None:
        """Ends a wait under way. Idempotent."""
        if not self._closed:
            self._closed = True
            self._hub.forget(self)
            self._board = None
            self.poke()

    @property
    def is_asleep(self) -> bool:
        return self._waiter is not None

    @property
    def has_word(self) -> bool:
        """Whether another process has left word."""
        board = self._board
        return board is not None and bool(board.map[PENDING + self.slot])


class Hub:
    """All watches of one process on one database, and the way to those of the others."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._gate = Lock()
        self._watches: dict[str, list[Watch]] = {}
        self._all: dict[int, Watch] = {}
        self._peers: dict[str, Board] = {}
        self._seen = -1
        self._closed = False
        self._armed = Event()
        self._sender = _sender()
        self._socket, self.board, self._file = _settle(folder)
        self._thread = Thread(target=self._listen, name="edow-sqlite-wake", daemon=True)
        self._thread.start()

    def watch(self, channels: Sequence[str]) -> Watch:
        with self._gate:
            slot = next((slot for slot in range(SLOTS) if slot not in self._all), None)
            if slot is None:
                raise InvalidInput(f"{SLOTS} watches are open on {self._folder}: close some, or share them")
            self.board.map[PENDING + slot] = 0
            watch = Watch(self, channels, slot)
            self._all[slot] = watch
            for channel in watch.channels:
                self._watches[channel] = [*self._watches.get(channel, ()), watch]
            self._tell_names()
            return watch

    def forget(self, watch: Watch) -> None:
        with self._gate:
            self._all.pop(watch.slot, None)
            for channel in watch.channels:
                left = [each for each in self._watches.get(channel, ()) if each is not watch]
                if left:
                    self._watches[channel] = left
                else:
                    self._watches.pop(channel, None)
            if not self._closed:
                self._tell_names()

    def arm(self, watch: Watch) -> None:
        """From now on a notification must wake this process."""
        if not self._closed:
            self.board.map[ARMED + watch.slot] = 1
        self._armed.set()

    def notify(self, channels: set[str]) -> None:
        for channel in channels:
            for watch in self._watches.get(channel, ()):
                watch.poke()
        with self._gate:
            if not self._closed:
                self._look_around()
                for peer in list(self._peers.values()):
                    if peer.mark(peer.slots(channels)):
                        self._send(peer)

    def close(self) -> None:
        """Wakes all waiters. Idempotent."""
        for watch in list(self._all.values()):
            watch.close()
        with self._gate:
            if self._closed:
                return
            self._closed = True
        self._armed.set()
        if self._socket is not None and self._sender is not None:
            try:
                self._sender.sendto(b"", self.board.address)
            except OSError:
                self._socket.close()
        self._thread.join()
        self._leave()

    def _leave(self) -> None:
        for channel in (self._socket, self._sender):
            if channel is not None:
                channel.close()
        for peer in self._peers.values():
            peer.close()
        address = self.board.address
        boards.remove(self.board)
        os.close(self._file)
        for folder in (self._folder, os.path.dirname(address)):
            try:
                os.rmdir(folder)  # works for the last to leave
            except OSError:
                pass

    def _tell_names(self) -> None:
        self.board.write_names(
            {channel: [watch.slot for watch in watches] for channel, watches in self._watches.items()}
        )

    def _look_around(self) -> None:
        """Notice processes that came or went; one `stat` when nothing has changed."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return
        if changed == self._seen:
            return
        names = {name for name in os.listdir(self._folder) if name.endswith(".board")}
        names.discard(os.path.basename(self.board.path))
        for gone in self._peers.keys() - names:
            self._peers.pop(gone).close()
        for new in names - self._peers.keys():
            peer = boards.join(os.path.join(self._folder, new))
            if peer is not None:
                self._peers[new] = peer
        self._seen = changed if time_ns() - changed > SETTLED_NS else -1

    def _send(self, peer: Board) -> None:
        if self._sender is None or not peer.address:
            return
        try:
            self._sender.sendto(b"!", peer.address)
        except (BlockingIOError, PermissionError):
            pass  # so many datagrams wait for it that it will wake; or it is not ours to wake
        except OSError:
            self._peers.pop(os.path.basename(peer.path), None)
            boards.remove(peer)  # nobody listens there: it has died

    def _listen(self) -> None:
        while not self._closed:
            if self._socket is not None:
                try:
                    self._socket.recv(16)
                except OSError:
                    return
            else:
                self._armed.wait()
                Event().wait(POLL_SECONDS)
            self._armed.clear()
            for watch in list(self._all.values()):
                if watch.is_asleep:
                    self._armed.set()
                    if watch.has_word:
                        watch.poke()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _sender() -> socket.socket | None:
    if not hasattr(socket, "AF_UNIX"):
        return None
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.setblocking(False)
    return sender


def _settle(folder: str) -> tuple[socket.socket | None, Board, int]:
    """A socket and a board in the folder, which another process that leaves may just be removing."""
    for _ in range(100):
        name = os.path.join(folder, f"{os.getpid()}-{time_ns():x}-{secrets.token_hex(4)}")
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            listener, address = _bind(f"{name}.socket")
            board, file = boards.create(f"{name}.board", address)
        except FileNotFoundError:
            continue
        return listener, board, file
    raise FileNotFoundError(f"{folder} vanishes as soon as it is made")


def _bind(address: str) -> tuple[socket.socket | None, str]:
    """A socket beside the board, or in a private directory when that path is too long for one."""
    if not hasattr(socket, "AF_UNIX"):
        return None, ""
    if len(os.fsencode(address)) > LONGEST_ADDRESS:
        address = os.path.join(tempfile.mkdtemp(prefix="edow-"), "socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.bind(address)
    except FileNotFoundError:
        listener.close()
        raise
    except OSError:
        listener.close()
        return None, ""
    return listener, address
