"""The page of executions: from a query string to a filter and back, and a page of rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec

from edow.console.look import Look, now_us
from edow.errors import InvalidInput
from edow.model.execution import Execution, Standing
from edow.store.contract import ExecutionFilter

PAGE = 50
PERIODS = {"15m": 15 * 60, "1h": 3600, "24h": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
SECOND = 1_000_000


class Search(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was asked for, as it stands in the address."""

    q: str = ""
    workflow: str = ""
    status: tuple[str, ...] = ()
    period: str = ""
    since: str = ""
    until: str = ""
    attribute: str = ""
    cursor: str = ""

    def filter(self, limit: int = PAGE) -> ExecutionFilter:
        """Raises InvalidInput."""
        now = now_us()
        after = _moment(self.since)
        if self.period:
            if self.period not in PERIODS:
                raise InvalidInput(f"period {self.period!r} is none of {', '.join(PERIODS)}")
            # To the whole minute, so that open pages share their answers.
            after = (now // (60 * SECOND)) * 60 * SECOND - PERIODS[self.period] * SECOND
        return ExecutionFilter(
            workflow=self.workflow or None,
            status=[_status(each) for each in self.status] or None,
            id_prefix=self.q.strip() or None,
            started_after=after,
            started_before=_moment(self.until),
            attributes=dict([_attribute(self.attribute)]) if self.attribute.strip() else None,
            cursor=self.cursor or None,
            limit=limit,
        )

    def link(self, **changes: object) -> str:
        """The address of the same search, but for `changes`."""
        fields = {**msgspec.structs.asdict(self), **changes}
        return "?" + urlencode({name: value for name, value in fields.items() if value}, doseq=True)

    @property
    def narrowed(self) -> bool:
        return bool(self.q or self.workflow or self.status or self.period or self.since or self.until or self.attribute)


class Listing(msgspec.Struct, frozen=True):
    search: Search
    rows: list[Execution]
    cursor: str | None
    now: int
    workflows: list[str]


def search_of(query: Mapping[str, str], status: Sequence[str]) -> Search:
    """Unknown names are ignored: links from elsewhere may carry more."""
    known = {name: query[name] for name in Search.__struct_fields__ if name != "status" and name in query}
    return Search(status=tuple(dict.fromkeys(status)), **known)


async def listing(look: Look, search: Search) -> Listing:
    page = await look.page(search.filter())
    return Listing(search, page.executions, page.cursor, now_us(), look.workflows())


def _status(text: str) -> Standing:
    try:
        return Standing(text)
    except ValueError:
        raise InvalidInput(f"status {text!r} is none of {', '.join(Standing)}") from None


def _attribute(text: str) -> tuple[str, str | int | float | bool]:
    name, mark, value = text.partition("=")
    if not mark or not name.strip():
        raise InvalidInput(f"attribute {text!r} is not NAME=VALUE")
    try:
        decoded = msgspec.json.decode(value)
    except msgspec.DecodeError:
        decoded = value
    return name.strip(), decoded if isinstance(decoded, str | int | float | bool) else value


def _moment(text: str) -> int | None:
    """Of a date-and-time field: UTC, as all times here."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"time {text!r} is not like 2026-11-28T20:39") from None
    return round((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * SECOND)
