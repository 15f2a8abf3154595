"""Who does what one process is enough for. Two at once, when clocks differ, do no harm: they only work twice."""

from __future__ import annotations

import msgspec

from edow.errors import RecordChanged
from edow.monitor.keeper import KIND
from edow.store.contract import Put, Store

KEY = "lead"
SECONDS = 10.0
EARLY = 3_000_000  # before its end it is taken anew
LOOK = 5_000_000  # until we look again whether somebody has let go of it


class _Holder(msgspec.Struct):
    process: str
    until: int


class Lead:
    def __init__(self, store: Store, process: str) -> None:
        self._store = store
        self._process = process
        self._until = 0
        self._others_until = 0  # most likely

    async def held(self, now: int) -> bool:
        """Whether it is ours now; takes it when it is free."""
        if now < self._until - EARLY:
            return True
        if self._others_until - LOOK <= now < self._others_until:
            return False
        (record,) = await self._store.records_get(KIND, [KEY])
        version = 0
        if record is not None:
            holder, version = msgspec.json.decode(record.body, type=_Holder), record.version
            if holder.process != self._process and holder.until > now:
                self._others_until = min(holder.until, now + LOOK)
                return False
        until = now + int(SECONDS * 1_000_000)
        try:
            body = msgspec.json.encode(_Holder(self._process, until))
            await self._store.records_put([Put(KIND, KEY, body, version, until + 86_400_000_000, quiet=True)], now)
        except RecordChanged:
            return False
        self._until = until
        return True

    async def let_go(self, now: int) -> None:
        """Somebody else may take it at once."""
        if await self.held(now):
            self._until = 0
            body = msgspec.json.encode(_Holder(self._process, 0))
            await self._store.records_put([Put(KIND, KEY, body, None, now + 86_400_000_000, quiet=True)], now)
