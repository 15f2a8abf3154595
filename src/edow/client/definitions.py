"""Definitions of what starts executions (hooks, event triggers, endpoints): made, looked at, changed and deleted.

Each is one record under its name. What an operator does with them is in the audit log, without secrets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

import msgspec

from edow.client import audit
from edow.client.link import Link
from edow.errors import AlreadyExists, InvalidInput, NotFound, RecordChanged
from edow.store.contract import Put, Record, RecordFilter

D = TypeVar("D")

MOST = 1000  # of a kind


class Definitions(Generic[D]):
    """Of one kind. `noun` is what people and the audit log call it."""

    def __init__(self, link: Link, kind: str, noun: str, type: type[D], prefix: str = "") -> None:
        """`prefix`: of the keys, where the kind has other records, too."""
        self._link = link
        self._kind = kind
        self._prefix = prefix
        self._noun = noun
        self._type = type

    async def make(self, name: str, definition: D, parameters: Mapping[str, audit.Value]) -> None:
        """Write a new one down. Raises AlreadyExists, InvalidInput."""
        if len(await self.records()) >= MOST:
            raise InvalidInput(f"there are {MOST} {self._noun}s already: delete those that nobody needs")
        put = Put(self._kind, self._prefix + name, msgspec.json.encode(definition), if_version=0)
        try:
            await self._link.act(f"{self._noun}.create", name, parameters, puts=[put])
        except RecordChanged as problem:
            raise AlreadyExists(
                f"{self._noun} {name!r} exists already; delete it first, or choose another name"
            ) from problem

    async def records(self) -> list[Record]:
        """All of them, by name."""
        return await self._link.store.records_list(RecordFilter(self._kind, self._prefix, limit=MOST))

    async def list(self) -> list[D]:
        """All of them, by name."""
        return [self._decoded(record) for record in await self.records()]

    async def get(self, name: str) -> D:
        """Raises NotFound."""
        return self._decoded(await self._record(name))

    async def change(
        self, name: str, change: Callable[[D], D], action: str, parameters: Mapping[str, audit.Value]
    ) -> D:
        """Write down what `change` makes of it. Raises NotFound, InvalidInput, and RecordChanged if somebody else has
        changed it at the same moment.
        """
        record = await self._record(name)
        changed = change(self._decoded(record))
        put = Put(self._kind, record.key, msgspec.json.encode(changed), record.version)
        await self._link.act(f"{self._noun}.{action}", name, parameters, puts=[put])
        return changed

    async def delete(self, name: str) -> None:
        """Raises NotFound."""
        record = await self._record(name)
        await self._link.act(f"{self._noun}.delete", name, {}, puts=[Put(self._kind, record.key, None, record.version)])

    async def _record(self, name: str) -> Record:
        [record] = await self._link.store.records_get(self._kind, [self._prefix + name])
        if record is None:
            raise NotFound(f"there is no {self._noun} {name!r}; `edow {self._noun} list` shows what there is")
        return record

    def _decoded(self, record: Record) -> D:
        return msgspec.json.decode(record.body, type=self._type)
