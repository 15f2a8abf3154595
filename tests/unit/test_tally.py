"""How often statuses are counted: the longer it takes, the more seldom."""

from __future__ import annotations

from edow.store.tally import Tally


async def test_what_is_counted_quickly_is_counted_each_time() -> None:
    """Small stores always tell how things are now."""
    clock, counts = [0.0], []

    async def count() -> dict[str, int]:
        clock[0] += 0.01
        counts.append(1)
        return {"running": len(counts)}

    tally = Tally(lambda: clock[0])
    assert [await tally.get(count) for _ in range(3)] == [{"running": 1}, {"running": 2}, {"running": 3}]


async def test_what_takes_long_is_counted_a_fiftieth_of_the_time() -> None:
    """And what is told meanwhile is what was counted last."""
    clock, counts = [0.0], []

    async def count() -> dict[str, int]:
        clock[0] += 2.0
        counts.append(clock[0])
        return {"running": len(counts)}

    tally = Tally(lambda: clock[0])
    first = await tally.get(count)
    first["running"] = 99  # whoever changes what he was told changes nothing for others
    clock[0] = 90.0
    assert await tally.get(count) == {"running": 1}
    clock[0] = 101.0
    assert await tally.get(count) == {"running": 2}
    assert len(counts) == 2
