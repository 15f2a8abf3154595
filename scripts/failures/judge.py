"""From what was seen in a run to its figures. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import msgspec

from edow.model.execution import ENDED, Execution, Status, shard_of
from scripts.failures.ledger import Effect
from scripts.failures.model import Options
from scripts.failures.workflows import STEPS

SHOWN = 10  # findings of a kind
RIGHT = b"3"  # what every execution answers


class Strike(msgspec.Struct):
    """When something broke, and when it was whole again; in seconds since 1970."""

    at: float
    healed_at: float = float("inf")


def expected_effects(options: Options) -> set[str]:
    courses = itertools.product(range(options.executions), range(STEPS))
    fans = itertools.product(range(options.fan_outs), range(options.width))
    return {f"course-{n:06}:{step}" for n, step in courses} | {f"fan-{n:06}:{part}" for n, part in fans}


def execution_of(key: str) -> str:
    return key.partition(":")[0]


def lost(expected: Collection[str], effects: Mapping[str, Effect]) -> list[str]:
    return sorted(key for key in expected if key not in effects)


def applied_too_often(expected: Collection[str], effects: Mapping[str, Effect]) -> list[str]:
    return sorted(key for key, effect in effects.items() if effect.times > 1 or key not in expected)


def wrong_ends(rows: Sequence[Execution]) -> list[Execution]:
    ended = [row for row in rows if row.status in ENDED]
    return [row for row in ended if row.status is not Status.COMPLETED or bytes(row.result or b"") != RIGHT]


def findings(rows: Sequence[Execution], expected: Collection[str], effects: Mapping[str, Effect]) -> list[str]:
    """What is wrong, by name; not more of a kind than people read."""
    open_rows = [row for row in rows if row.status not in ENDED]
    return [
        *[f"{row.id} is {row.status}" for row in (*wrong_ends(rows), *open_rows)][:SHOWN],
        *[f"{key} was lost" for key in lost(expected, effects)][:SHOWN],
        *[f"{key} was applied {effects[key].times} times" for key in applied_too_often(expected, effects)][:SHOWN],
    ]


def pauses(effects: Mapping[str, Effect], strikes: Sequence[Strike], shards: int) -> tuple[float, float]:
    """The longest that a shard stood still from the first strike on, and how much of such a pause came after
    everything was whole again.
    """
    times: dict[int, list[float]] = defaultdict(list)
    for key, effect in effects.items():
        times[shard_of(execution_of(key), shards)].append(effect.at)
    pause = recovery = 0.0
    never = Strike(float("inf"))
    for moments in times.values():
        moments.sort()
        for strike, following in itertools.pairwise([*strikes, never]):
            within = [(b - a, b) for a, b in itertools.pairwise(moments) if b > strike.at and a < following.at]
            if within:
                longest, until = max(within)
                pause = max(pause, longest)
                recovery = max(recovery, min(longest, until - strike.healed_at))
    return pause, recovery


def longest_wait(effects: Mapping[str, Effect], asked: Mapping[str, float]) -> float:
    """From the signals of an execution to its last effect."""
    last: dict[str, float] = {}
    for key, effect in effects.items():
        name = execution_of(key)
        last[name] = max(last.get(name, 0.0), effect.at)
    return max((at - asked[name] for name, at in last.items() if name in asked), default=0.0)
