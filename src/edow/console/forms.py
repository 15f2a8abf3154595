"""What pages and forms are given and give: the arguments of handlers, and fields as what they mean."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import URLEncodedBody

from edow.console.look import Look
from edow.console.render import Renderer
from edow.errors import InvalidInput

Form = URLEncodedBody[dict[str, Any]]
Looking = NamedDependency[Look]
Rendering = NamedDependency[Renderer]
Page = Response[bytes]
Asked = Request[Any, Any, Any]


def text(data: Mapping[str, Any], name: str) -> str:
    """A field, without blanks around it; "" where it is missing."""
    return str(data.get(name) or "").strip()


def json_of(data: Mapping[str, Any], name: str) -> object:
    """A field that holds JSON, or nothing: null. Raises InvalidInput."""
    given = text(data, name)
    if not given:
        return None
    try:
        return msgspec.json.decode(given)
    except msgspec.DecodeError as problem:
        raise InvalidInput(f'the {name} is no JSON: {problem}; text needs quotes, like "approved"') from problem


def object_of(data: Mapping[str, Any], name: str) -> dict[str, object] | None:
    """A field that holds a JSON object, or nothing. Raises InvalidInput."""
    found = json_of(data, name)
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(f'the {name} must be a JSON object by name; write {{"name": value}}')
    return found


def number(data: Mapping[str, Any], name: str, otherwise: float) -> float:
    """Raises InvalidInput."""
    given = text(data, name)
    try:
        found = float(given) if given else otherwise
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise InvalidInput(f"{name} {given!r} is no number; write it in digits")
    return found


def moment(data: Mapping[str, Any], name: str) -> datetime:
    """A date and time, UTC where it does not say otherwise. Raises InvalidInput."""
    given = text(data, name)
    try:
        found = datetime.fromisoformat(given)
    except ValueError:
        raise InvalidInput(f"{name} {given!r} is no time; write it like 2026-11-28T20:39") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def positive(given: str | None) -> int | None:
    """Of an address. Raises InvalidInput."""
    if not given:
        return None
    if not given.isdecimal() or not 0 < int(given) < 1 << 31:
        raise InvalidInput(f"{given!r} is no number above 0")
    return int(given)
