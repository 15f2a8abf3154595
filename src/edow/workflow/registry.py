"""Which tasks and workflows a program has: found in its modules' namespaces, no global list.

Promises that a name means one thing, or an error that names both; imports nothing by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import TypeVar

from edow.errors import InvalidInput, NotFound
from edow.workflow.definition import Workflow
from edow.workflow.task import Task

D = TypeVar("D", Task[..., object], Workflow[..., object])


@dataclass(frozen=True)
class Registry:
    """Definitions by name."""

    tasks: dict[str, Task[..., object]] = field(default_factory=dict)
    workflows: dict[str, Workflow[..., object]] = field(default_factory=dict)

    def add(self, found: object) -> None:
        """Raises InvalidInput when the name is taken by something else."""
        if isinstance(found, Task):
            _put(self.tasks, found)
        elif isinstance(found, Workflow):
            _put(self.workflows, found)

    def task(self, name: str) -> Task[..., object]:
        return _get(self.tasks, name, "task")

    def workflow(self, name: str) -> Workflow[..., object]:
        return _get(self.workflows, name, "workflow")


def collect(modules: Iterable[ModuleType]) -> Registry:
    """The definitions in these modules and in those of their submodules that are loaded."""
    registry = Registry()
    for module in _with_submodules(modules):
        for value in list(vars(module).values()):
            registry.add(value)
    return registry


def _with_submodules(modules: Iterable[ModuleType]) -> Iterator[ModuleType]:
    seen: set[int] = set()
    for module in modules:
        prefix = f"{module.__name__}."
        inner = [loaded for name, loaded in list(sys.modules.items()) if name.startswith(prefix)]
        for found in [module, *inner]:
            if id(found) not in seen:
                seen.add(id(found))
                yield found


def _put(known: dict[str, D], found: D) -> None:
    other = known.setdefault(found.name, found)
    if other.fn is not found.fn:
        raise InvalidInput(f"{other!r} and {found!r} have the same name: give one of them name=")


def _get(known: dict[str, D], name: str, what: str) -> D:
    if name not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise NotFound(f"no {what} {name!r} here; known: {listed}")
    return known[name]
