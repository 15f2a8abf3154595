"""What a tree must have added at the end, by plain arithmetic. Nothing here is durable, concurrent or of EDOW."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edow.verify import tree

Outcome = tuple[Counter[str], bool]
"""What was added by key, and whether the node succeeded."""


def simulate(node: tree.Node) -> Outcome:
    return simulate_leaf(node) if isinstance(node, tree.Leaf) else simulate_branch(node)


def simulate_leaf(node: tree.Leaf) -> Outcome:
    match node:
        case tree.Add() | tree.Signal():
            return Counter({node.key: node.amount}), True
        case tree.Loop():
            return Counter({node.key: node.rounds}), True
        case tree.Late():
            return Counter({node.key: 1}), True
        case tree.Sleep():
            return Counter(), True
        case tree.Doom():
            return Counter(), False


def simulate_branch(node: tree.Branch) -> Outcome:
    match node:
        case tree.Attempt():
            return simulate(node.part)[0], True
        case tree.Child():
            return simulate(node.part)
        case tree.Parallel():
            outcomes = [simulate(part) for part in node.parts]
            return _total(outcomes), all(good for _, good in outcomes)
        case tree.Sequence():
            return _one_by_one(node.parts)
        case tree.Saga():
            added, good = _one_by_one(node.parts)
            return (added, True) if good else (added + _undone(node.key, node.parts), False)
        case tree.Cancelled():
            added, _ = _one_by_one(node.parts)
            return added + _undone(node.key, node.parts) + _cancelled_child(node), True


def _one_by_one(parts: Sequence[tree.Node]) -> Outcome:
    outcomes = [simulate(part) for part in parts]
    return _total(outcomes[: _done(parts) + 1]), all(good for _, good in outcomes)


def _done(parts: Sequence[tree.Node]) -> int:
    """How many parts succeed before the first that does not."""
    return next((number for number, part in enumerate(parts) if not simulate(part)[1]), len(parts))


def _undone(key: str, parts: Sequence[tree.Node]) -> Counter[str]:
    return Counter({tree.undo_key(key, number): 1 for number in range(_done(parts))})


def _cancelled_child(node: tree.Cancelled) -> Counter[str]:
    """The child that it waits for is cancelled with it, and compensates too."""
    return Counter({node.key: 1} if node.waiting == "child" else {})


def _total(outcomes: Sequence[Outcome]) -> Counter[str]:
    total: Counter[str] = Counter()
    for added, _ in outcomes:
        total.update(added)
    return total
