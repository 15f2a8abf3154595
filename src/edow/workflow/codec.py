"""Values to JSON and back. One encoder for everything an author hands over, with pydantic models where they appear.

Promises an error that names the thing, its type and the remedy; knows nothing of tasks, and of pydantic its methods.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from edow.errors import InvalidInput, NotEncodable, PayloadTooLarge

T = TypeVar("T")

MAX_PAYLOAD_BYTES = 2 * 1024 * 1024
"""Largest encoded arguments or result of one call."""

ENCODE_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, NotImplementedError)
DECODE_ERRORS = (msgspec.MsgspecError, TypeError, ValueError, RecursionError, NotImplementedError)
REMEDY = (
    "use plain data: str, numbers, bytes, list, dict, dataclass, msgspec.Struct, TypedDict, enum, "
    "datetime, UUID, Decimal or a pydantic model"
)


def enc_hook(value: object) -> object:
    """Called by msgspec for what it does not know itself."""
    if _is_pydantic(type(value)):
        return value.model_dump(mode="json")  # type: ignore[attr-defined]
    raise NotImplementedError(f"{type(value).__qualname__} has no JSON form")


def dec_hook(kind: type, value: object) -> object:
    """Called by msgspec for annotations that it does not know itself."""
    if _is_pydantic(kind):
        return kind.model_validate(value)  # type: ignore[attr-defined]
    if kind is object:
        return value
    raise NotImplementedError(f"{getattr(kind, '__qualname__', kind)} cannot be made from JSON")


def schema_hook(kind: type, ref_template: str) -> dict[str, Any]:
    """The JSON Schema of an annotation that msgspec does not know itself; definitions are in `$defs`."""
    if _is_pydantic(kind):
        found: dict[str, Any] = kind.model_json_schema(ref_template=ref_template)  # type: ignore[attr-defined]
        return found
    raise NotImplementedError


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate")


encoder = msgspec.json.Encoder(enc_hook=enc_hook)


def encode(value: object, what: str) -> msgspec.Raw:
    """`what` names the value in errors: "the result of task charge"."""
    try:
        data = encoder.encode(value)
    except ENCODE_ERRORS as error:
        raise not_encodable(what, value, error) from error
    return within_limit(data, what)


def not_encodable(what: str, value: object, error: Exception) -> NotEncodable:
    kind = type(value).__qualname__
    return NotEncodable(f"{what} is a {kind} that has no JSON form ({error}): {REMEDY}")


def within_limit(data: bytes, what: str) -> msgspec.Raw:
    if len(data) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(
            f"{what} takes {len(data):,} bytes as JSON, over the limit of {MAX_PAYLOAD_BYTES:,}: "
            "store it elsewhere and hand over a reference to it"
        )
    return msgspec.Raw(data)


def decode(raw: msgspec.Raw | bytes, kind: type[T], what: str) -> T:
    try:
        return decoder_of(kind).decode(raw)
    except DECODE_ERRORS as error:
        raise InvalidInput(f"{what} does not fit {kind!r}: {error}") from error


def decoder_of(kind: type[T]) -> msgspec.json.Decoder[T]:
    """A decoder for the annotation, kept for the next call where it can be."""
    try:
        return _decoder(kind)  # type: ignore[arg-type]  # what cannot be hashed is caught
    except TypeError:  # an annotation that cannot be hashed
        return msgspec.json.Decoder(kind, dec_hook=dec_hook)


@lru_cache(maxsize=1024)
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind, dec_hook=dec_hook)
