"""Grows random trees. The same seed and number give the same plan, on every machine."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from edow.verify import tree

DEEPEST = 4
WIDEST = 4
CANCELLED_SHARE = 0.15


def plan(seed: int, number: int) -> tree.Plan:
    """The execution of this number."""
    chance = Random(f"{seed}/{number}")
    name = f"verify-{seed}-{number:06}"
    cancelled = chance.random() < CANCELLED_SHARE
    gardener = Gardener(chance, name)
    return tree.Plan(name, gardener.cancelled(1) if cancelled else gardener.inner(DEEPEST), cancelled)


class Gardener:
    """Numbers the leaves of one plan as it goes."""

    def __init__(self, chance: Random, name: str) -> None:
        self._chance = chance
        self._name = name
        self._keys = 0
        self._leaves: dict[Callable[[], tree.Node], int] = {  # with their weights
            self.add: 10,
            self.sleep: 2,
            self.signal: 2,
            self.late: 1,
            self.loop: 1,
        }
        self._branches: dict[Callable[[int], tree.Node], int] = {
            self.sequence: 4,
            self.parallel: 4,
            self.saga: 3,
            self.child: 2,
            self.attempt: 2,
            self.cancelled: 2,
        }

    def inner(self, depth: int) -> tree.Node:
        [branch] = self._chance.choices(list(self._branches), list(self._branches.values()))
        return branch(depth - 1)

    def node(self, depth: int) -> tree.Node:
        return self.leaf() if depth <= 0 or self._chance.random() < 0.4 else self.inner(depth)

    def leaf(self) -> tree.Node:
        [leaf] = self._chance.choices(list(self._leaves), list(self._leaves.values()))
        return leaf()

    # ── leaves ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def add(self) -> tree.Node:
        chance = self._chance
        hitches = chance.random() < 0.25
        return tree.Add(
            self._key(),
            amount=chance.randint(1, 9),
            before=chance.randint(0, 2) if hitches else 0,
            after=chance.randint(0, 1) if hitches else 0,
            thread=chance.random() < 0.3,
        )

    def sleep(self) -> tree.Node:
        return tree.Sleep(self._chance.randint(1, 300))

    def signal(self) -> tree.Node:
        return tree.Signal(self._key(), self._chance.randint(1, 9))

    def late(self) -> tree.Node:
        return tree.Late(self._key(), self._chance.choice(("timer", "signal", "task")))

    def loop(self) -> tree.Node:
        return tree.Loop(self._key(), self._chance.randint(1, 3))

    # ── branches ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def sequence(self, depth: int) -> tree.Node:
        return tree.Sequence(self._nodes(depth))

    def parallel(self, depth: int) -> tree.Node:
        return tree.Parallel(self._nodes(depth))

    def saga(self, depth: int) -> tree.Node:
        parts = self._nodes(depth)
        if self._chance.random() < 0.6:
            parts.insert(self._chance.randint(1, len(parts)), tree.Doom(self._key()))
        return tree.Saga(self._key(), parts)

    def child(self, depth: int) -> tree.Node:
        return tree.Child(self._key(), self.node(depth))

    def attempt(self, depth: int) -> tree.Node:
        return tree.Attempt(self.inner(depth) if depth > 0 else tree.Doom(self._key()))

    def cancelled(self, _: int) -> tree.Node:
        """Its parts cannot fail, so that it is sure to reach the place where it is cancelled."""
        parts = [self._chance.choice((self.add, self.sleep, self.signal))() for _ in range(self._chance.randint(1, 3))]
        return tree.Cancelled(self._key(), parts, self._waiting())

    def _nodes(self, depth: int) -> list[tree.Node]:
        return [self.node(depth) for _ in range(self._chance.randint(1, WIDEST))]

    def _waiting(self) -> tree.Waiting:
        waits: tuple[tree.Waiting, ...] = ("timer", "signal", "task", "child")
        return self._chance.choice(waits)

    def _key(self) -> str:
        self._keys += 1
        return f"{self._name}:{self._keys}"
