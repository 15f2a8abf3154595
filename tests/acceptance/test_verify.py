"""The verification program: with fixed seeds, and the parts that it judges by."""

from __future__ import annotations

import json
from collections import Counter

import msgspec
import pytest

from edow.verify import growth, tree
from edow.verify.run import difference
from edow.verify.simulation import simulate
from tests.acceptance.commands import edow_command, place_of
from tests.conformance.transports import BROKERS


@pytest.mark.timeout(150)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_workflows_come_out_as_simulated(seed: int) -> None:
    """While orchestrators and workers are killed, every counter ends as plain arithmetic says."""
    run = edow_command("verify", "--json", "--seed", str(seed), "--seconds", "5", timeout=140)
    assert run.returncode == 0, run.stdout + run.stderr
    answer = json.loads(run.stdout)
    assert (answer["difference"], answer["wrong_ends"], answer["stuck"]) == (0, 0, 0)
    assert answer["additions"] > 10
    assert answer["workers_killed"] + answer["orchestrators_killed"] > 0


@pytest.mark.timeout(150)
@pytest.mark.parametrize("server", BROKERS)
def test_random_workflows_come_out_as_simulated_on_every_server(server: str) -> None:
    """The same over each transport, small: kills fall into what each broker leaves to its driver."""
    words = ["--seed", "3", "--seconds", "1", "--in-flight", "4", *place_of(server)]
    run = edow_command("verify", "--json", *words, timeout=140)
    assert run.returncode == 0, run.stdout + run.stderr
    answer = json.loads(run.stdout)
    assert (answer["difference"], answer["wrong_ends"], answer["stuck"], answer["left_running"]) == (0, 0, 0, 0)
    assert answer["additions"] > 0
    assert answer["workers_killed"] + answer["orchestrators_killed"] > 0


def test_a_seed_grows_the_same_trees() -> None:
    """A verification that failed can be repeated."""
    assert [growth.plan(7, number) for number in range(50)] == [growth.plan(7, number) for number in range(50)]


def test_every_kind_of_node_grows() -> None:
    """Nothing that a tree can say is left untried."""
    seen = set()

    def visit(node: tree.Node) -> None:
        seen.add(type(node))
        for part in getattr(node, "parts", [getattr(node, "part", None)]):
            if part is not None:
                visit(part)

    for number in range(300):
        visit(growth.plan(1, number).root)
    assert seen == set(tree.Node.__args__)


def test_keys_are_used_once_in_a_tree() -> None:
    """A difference names the one call that went wrong."""
    for number in range(100):
        encoded = msgspec.json.decode(msgspec.json.encode(growth.plan(3, number).root))
        keys = list(_keys(encoded))
        assert len(keys) == len(set(keys))


def _keys(node: object) -> list[str]:
    match node:
        case {"key": str(key), **rest}:
            return [key, *(found for value in rest.values() for found in _keys(value))]
        case dict():
            return [found for value in node.values() for found in _keys(value)]
        case list():
            return [found for value in node for found in _keys(value)]
    return []


def test_a_failed_saga_is_undone_as_far_as_it_was_done() -> None:
    """Parts before the failure count, with their compensations; parts after it do not."""
    saga = tree.Saga("s", [tree.Add("a", 2), tree.Add("b", 3), tree.Doom("d"), tree.Add("c", 5)])
    assert simulate(saga) == (Counter({"a": 2, "b": 3, "s~0": 1, "s~1": 1}), False)


def test_parallel_parts_all_run_to_their_end() -> None:
    """A failure beside them stops none, but fails the whole."""
    parts: list[tree.Node] = [tree.Doom("d"), tree.Sequence([tree.Add("a"), tree.Add("b")])]
    assert simulate(tree.Parallel(parts)) == (Counter({"a": 1, "b": 1}), False)


def test_what_is_cancelled_is_undone() -> None:
    """The parts, their compensations, and that of the child it was waiting for."""
    node = tree.Cancelled("x", [tree.Add("a", 4)], "child")
    assert simulate(node) == (Counter({"a": 4, "x~0": 1, "x": 1}), True)


def test_the_difference_counts_in_both_directions() -> None:
    """Too much and too little do not make up for each other."""
    assert difference(Counter({"a": 3, "b": 1}), Counter({"a": 1, "c": 4})) == 2 + 1 + 4


def test_nonsense_is_refused() -> None:
    """An unknown option is named, and the exit code tells."""
    run = edow_command("verify", "--sed", "1")
    assert run.returncode == 2
    assert "--sed" in run.stderr
