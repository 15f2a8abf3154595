"""Step keys. A key is a step's name and its occurrence within its own asyncio task, never its global position.

So a branch added elsewhere renumbers nothing. Knows nothing of what the steps do.
"""

from __future__ import annotations


class Scope:
    """The names given so far within one asyncio task. `path` is "" for the workflow's own, else "pack_all~1/"."""

    __slots__ = ("counts", "path")

    def __init__(self, path: str = "") -> None:
        self.path = path
        self.counts: dict[str, int] = {}

    def key(self, name: str) -> str:
        """charge, charge#2, charge#3, ..."""
        count = self.counts.get(name, 0) + 1
        self.counts[name] = count
        return f"{self.path}{name}" if count == 1 else f"{self.path}{name}#{count}"

    def child(self, name: str) -> str:
        """The segment of a new asyncio task: pack_all~1, pack_all~2, ..."""
        counted = f"~{name}"  # apart from the steps of that name
        count = self.counts.get(counted, 0) + 1
        self.counts[counted] = count
        return f"{self.path}{name}~{count}"
