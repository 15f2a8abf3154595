"""From a history to a graph: which steps led to which. Steps of one task that began together are one node.

What led to a step is what the execution had just been told when it asked for it: the end of another step (and of
those that were started beside that one and have ended too, a join), a signal, or its start. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from edow.cli.timeline import timeline
from edow.model import history
from edow.model.history import AnyEvent

MOST = 120  # nodes drawn; a graph of more says nothing
START = "start"


class Node(msgspec.Struct):
    """`states` counts its steps by state. `layer` and `place` are its column and row."""

    key: str
    name: str
    kind: str
    states: dict[str, int]
    layer: int = 0
    place: int = 0

    @property
    def count(self) -> int:
        return sum(self.states.values())

    @property
    def under(self) -> str:
        """For people: `done`, or `1,842 steps: 3 parked, 1,839 done`."""
        if self.count == 1:
            return next(iter(self.states))
        return f"{self.count:,}: " + ", ".join(f"{count:,} {state}" for state, count in self.states.items())

    @property
    def state(self) -> str:
        """The one that people must see first."""
        for state in ("parked", "failed", "retrying", "running", "scheduled", "sleeping", "cancelled", "dropped"):
            if self.states.get(state):
                return state
        return "done"


class Graph(msgspec.Struct):
    nodes: list[Node]
    edges: list[tuple[str, str]]
    hidden: int = 0

    @property
    def by_key(self) -> dict[str, Node]:
        return {node.key: node for node in self.nodes}

    @property
    def layers(self) -> int:
        return 1 + max((node.layer for node in self.nodes), default=0)

    @property
    def places(self) -> int:
        return 1 + max((node.place for node in self.nodes), default=0)


def graph(events: Sequence[AnyEvent]) -> Graph:
    builder = _Builder()
    for event in events:
        builder.add(event)
    states = {line.name: line.state for line in timeline(events) if line.kind in ("task", "timer", "child")}
    nodes = [builder.node(key, states) for key in builder.members]
    edges = list(dict.fromkeys(builder.edges))
    if len(nodes) > MOST:
        kept = {node.key for node in nodes[:MOST]}
        edges = [(one, other) for one, other in edges if one in kept and other in kept]
    return _placed(Graph(nodes[:MOST], edges, max(0, len(nodes) - MOST)))


class _Builder:
    def __init__(self) -> None:
        self.members: dict[str, list[str]] = {START: []}  # node: its steps
        self.names: dict[str, tuple[str, str]] = {START: ("start", "event")}
        self.edges: list[tuple[str, str]] = []
        self._keys: dict[tuple[str, str, str], str] = {}
        self._node_of: dict[str, str] = {}
        self._batch_of: dict[str, int] = {}
        self._batches: list[list[str]] = [[]]
        self._ended: set[str] = set()
        self._leads: set[str] = {START}  # nodes with a successor
        self._cause: str = START
        self._because: tuple[str, ...] = (START,)

    def add(self, event: AnyEvent) -> None:
        match event:
            case history.TaskScheduled(step=step, task=task):
                self._begun(step, task, "task")
            case history.TimerStarted(step=step):
                self._begun(step, step.partition("#")[0], "timer")
            case history.ChildStarted(step=step, workflow=workflow):
                self._begun(step, workflow, "child")
            case (
                history.TaskCompleted(step=step)
                | history.TaskFailed(step=step)
                | history.TimerFired(step=step)
                | history.ChildCompleted(step=step)
                | history.ChildFailed(step=step)
            ):
                self._ended.add(step)
                self._told(step)
            case history.SignalReceived(name=name):
                key = f"signal {name}"
                self.members.setdefault(key, [])
                self.names[key] = (name, "signal")
                self._because, self._cause = (key,), key
                self._batches.append([])
            case history.CancelRequested() | history.Resumed():
                self._batches.append([])
            case _:
                pass

    def node(self, key: str, states: dict[str, str]) -> Node:
        name, kind = self.names[key]
        counted = Counter(states.get(step, "done") for step in self.members[key]) or Counter({"done": 1})
        return Node(key, name, kind, dict(counted))

    def _told(self, step: str) -> None:
        """A step has ended: what is asked for next follows from it and from its companions."""
        node = self._node_of.get(step)
        if node is None:
            return
        companions = self._batches[self._batch_of[step]]
        joined = {self._node_of[each] for each in companions if each in self._ended}
        self._because = tuple(sorted({node} | {each for each in joined if each not in self._leads}))
        self._cause = node
        self._batches.append([])

    def _begun(self, step: str, name: str, kind: str) -> None:
        key = self._keys.setdefault((self._cause, kind, name), f"n{len(self._keys)}")
        self.members.setdefault(key, []).append(step)
        self.names[key] = (name, kind)
        self._node_of[step] = key
        self._batch_of[step] = len(self._batches) - 1
        self._batches[-1].append(step)
        self.edges += [(cause, key) for cause in self._because]
        self._leads.update(self._because)


def _placed(found: Graph) -> Graph:
    """A column for each node, behind all that led to it; rows in the order of appearance."""
    by_key = {node.key: node for node in found.nodes}
    for one, other in found.edges:  # edges come in the order of their second node
        if one != other:
            by_key[other].layer = max(by_key[other].layer, by_key[one].layer + 1)
    rows: Counter[int] = Counter()
    for node in found.nodes:
        node.place = rows[node.layer]
        rows[node.layer] += 1
    return found
