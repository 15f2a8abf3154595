"""Work that goes on beside a process's main work."""

from __future__ import annotations

import asyncio

from edow import background
from edow.background import Background, forever
from edow.errors import StoreUnavailable


async def test_what_is_done_again_and_again_outlives_any_failure(caplog):
    """A store that is away and a bug are logged, with what did not happen, and it is tried again."""
    turns: list[int] = []
    enough = asyncio.Event()

    async def once() -> str:
        turns.append(len(turns))
        if len(turns) == 1:
            raise StoreUnavailable("the store is away")
        if len(turns) == 2:
            raise RuntimeError("a bug")
        if len(turns) == 5:
            enough.set()
        return "now"

    work = Background(("counting", lambda: forever(once, "turns were not counted", 0.0, {"now": 0.0}.__getitem__)))
    work.start()
    await enough.wait()
    assert await work.stop()
    assert [(each.levelname, each.message, each.exc_info is not None) for each in caplog.records] == [
        ("WARNING", "turns were not counted: the store is away; trying again", False),
        ("ERROR", "turns were not counted; trying again", True),
    ]


async def test_starting_and_stopping_twice_is_harmless():
    """The work runs once, is gone when it has been stopped, and can be started again."""
    running: list[str] = []

    async def work() -> None:
        running.append("it")
        try:
            await asyncio.Event().wait()
        finally:
            running.remove("it")

    background = Background(("one", work), ("other", work))
    assert not await background.stop()
    for _ in range(2):
        background.start()
        background.start()
        await asyncio.sleep(0)
        assert running == ["it", "it"]
        assert await background.stop()
        assert not await background.stop()
        assert running == []


async def test_nothing_ends_it_but_who_has_begun_it(caplog, monkeypatch):
    """Not a client library that cancels whoever waits for it, nor an error that nobody expected."""
    monkeypatch.setattr(background, "AGAIN_SECONDS", 0.0)
    turns: list[int] = []
    enough = asyncio.Event()

    async def work() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            given_up = asyncio.get_running_loop().create_future()
            given_up.cancel()
            await given_up
        if len(turns) == 2:
            raise RuntimeError("a bug")
        enough.set()
        await asyncio.Event().wait()

    kept = Background(("counting", work))
    kept.start()
    await enough.wait()
    assert await kept.stop()
    assert [(each.levelname, each.message) for each in caplog.records] == [
        ("ERROR", "counting was cancelled by something that it called; it goes on"),
        ("ERROR", "counting has ended; it begins anew"),
    ]


async def test_a_cancellation_that_somebody_has_swallowed_is_heard():
    """By the next turn at the latest: whoever stops it does not wait for ever."""
    begun = asyncio.Event()

    async def once() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise StoreUnavailable("a connection that was given up") from None

    work = Background(("swallowing", lambda: forever(once, "not done", 0.0)))
    work.start()
    await begun.wait()
    assert await work.stop()
