"""A function's parameters and result as JSON. Workers, workflows and the desk for dead letters all go through here.

Promises that arguments which do not fit raise where the call is written, naming function, parameter and remedy.
Knows nothing of who calls and when.
"""

from __future__ import annotations

import copy
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from inspect import Parameter
from typing import Any, Generic, TypeVar

import msgspec

from edow.errors import InvalidInput, NotEncodable, SignatureMismatch
from edow.workflow.codec import (
    DECODE_ERRORS,
    ENCODE_ERRORS,
    decoder_of,
    encoder,
    not_encodable,
    within_limit,
)

R = TypeVar("R")

Arguments = tuple[tuple[object, ...], dict[str, object]]

PLAIN = Parameter.POSITIONAL_OR_KEYWORD
IMMUTABLE = (str, int, float, bool, bytes, tuple, frozenset, type(None))


class Signature(Generic[R]):
    """Built once per function, at first use, so that annotations may name what is defined further down the module."""

    __slots__ = ("_by_name", "_check_result", "_decode", "_parameters", "_result", "_shape", "what")

    def __init__(self, fn: Callable[..., object], what: str) -> None:
        self.what = what  # "task charge", for errors
        hints = _hints(fn, what)
        signature = inspect.signature(fn)
        self._parameters = signature.parameters
        # Only a signature of plain parameters can be bound in C by the struct's own constructor.
        plain = all(parameter.kind is PLAIN for parameter in self._parameters.values())
        self._by_name = None if plain else signature
        self._shape = _shape(self._parameters, hints, what, plain)
        self._decode = decoder_of(self._shape).decode
        result = hints.get("return", Any)
        self._check_result = result is not Any
        self._result: msgspec.json.Decoder[R] = decoder_of(_result_type(result))

    # Arguments

    def encode_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> msgspec.Raw:
        """Bind, encode and check: raises SignatureMismatch, NotEncodable or PayloadTooLarge."""
        try:
            if self._by_name is None:
                bound = self._shape(*args, **kwargs)
            else:
                bound = self._shape(**self._by_name.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise self._mismatch(error) from None
        try:
            data = encoder.encode(bound)
        except ENCODE_ERRORS as error:
            raise self._not_encodable(bound, error) from error
        raw = within_limit(data, f"the arguments of {self.what}")
        try:
            self._decode(data)
        except DECODE_ERRORS as error:
            raise self._mismatch(error) from error
        return raw

    def decode_args(self, raw: msgspec.Raw | bytes) -> Arguments:
        """Typed, ready for `fn(*args, **kwargs)`. Raises SignatureMismatch."""
        try:
            bound = self._decode(raw)
        except DECODE_ERRORS as error:
            raise self._mismatch(error) from error
        if self._by_name is None:
            return msgspec.structs.astuple(bound), {}
        return self._spread(bound)

    def check(self, raw: msgspec.Raw | bytes) -> None:
        """Would the function accept this payload? Raises SignatureMismatch."""
        self.decode_args(raw)

    def _spread(self, bound: msgspec.Struct) -> Arguments:
        args: list[object] = []
        kwargs: dict[str, object] = {}
        for name, parameter in self._parameters.items():
            value = getattr(bound, name)
            match parameter.kind:
                case Parameter.VAR_POSITIONAL:
                    args.extend(value)
                case Parameter.VAR_KEYWORD:
                    kwargs.update(value)
                case Parameter.KEYWORD_ONLY:
                    kwargs[name] = value
                case _:
                    args.append(value)
        return tuple(args), kwargs

    # Result

    def encode_result(self, value: object) -> msgspec.Raw:
        """Raises NotEncodable, also for a value that is not of the annotated type, or PayloadTooLarge."""
        what = f"the result of {self.what}"
        try:
            data = encoder.encode(value)
            if self._check_result:
                self._result.decode(data)
        except msgspec.ValidationError as error:
            kind = type(value).__qualname__
            raise NotEncodable(f"{what} is a {kind} that does not fit its return annotation: {error}") from error
        except ENCODE_ERRORS as error:
            raise not_encodable(what, value, error) from error
        return within_limit(data, what)

    def decode_result(self, raw: msgspec.Raw | bytes) -> R:
        """Typed. Raises SignatureMismatch."""
        try:
            return self._result.decode(raw)
        except DECODE_ERRORS as error:
            raise SignatureMismatch(
                f"the recorded result of {self.what} does not fit its return annotation: {error}"
            ) from error

    # Errors

    @property
    def types(self) -> tuple[Any, Any]:
        """Of all parameters together, as a struct, and of the result: for JSON Schemas."""
        return self._shape, self._result.type

    def __str__(self) -> str:
        parameters = ", ".join(str(parameter) for parameter in self._parameters.values())
        return f"{self.what}({parameters})"

    def _mismatch(self, error: Exception) -> SignatureMismatch:
        return SignatureMismatch(f"arguments do not fit {self}: {error}")

    def _not_encodable(self, bound: msgspec.Struct, error: Exception) -> NotEncodable:
        for name in self._parameters:
            value = getattr(bound, name)
            try:
                encoder.encode(value)
            except ENCODE_ERRORS as own:
                return not_encodable(f"argument {name!r} of {self.what}", value, own)
        return not_encodable(f"the arguments of {self.what}", bound, error)


def _hints(fn: Callable[..., object], what: str) -> dict[str, Any]:
    try:
        hints = typing.get_type_hints(fn, include_extras=True)
    except (NameError, TypeError, AttributeError) as error:
        raise InvalidInput(
            f"the annotations of {what} ({fn.__module__}.{fn.__qualname__}) cannot be resolved: "
            f"{error}; import the types at run time and define them at module level"
        ) from error
    return {name: Any if _is_anything(hint) else hint for name, hint in hints.items()}


def _is_anything(hint: Any) -> bool:
    """`object`, alone or in a union, says what `Any` says."""
    united = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return hint is object or (united and object in typing.get_args(hint))


def _shape(parameters: Mapping[str, Parameter], hints: dict[str, Any], what: str, plain: bool) -> type[msgspec.Struct]:
    try:
        return msgspec.defstruct(
            f"ArgumentsOf[{what}]",
            [_field(parameter, hints) for parameter in parameters.values()],
            forbid_unknown_fields=True,
            kw_only=not plain,
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the parameters of {what} cannot be told in JSON: {error}") from error


def _field(parameter: Parameter, hints: dict[str, Any]) -> tuple[str, Any] | tuple[str, Any, Any]:
    name, hint = parameter.name, hints.get(parameter.name, Any)
    match parameter.kind:
        case Parameter.VAR_POSITIONAL:
            return name, types.GenericAlias(list, (hint,)), msgspec.field(default_factory=list)
        case Parameter.VAR_KEYWORD:
            return name, types.GenericAlias(dict, (str, hint)), msgspec.field(default_factory=dict)
    default = parameter.default
    if default is Parameter.empty:
        return name, hint
    if default is None:
        return name, typing.Optional[hint], None  # noqa: UP045  # `hint` may be any special form
    if isinstance(default, IMMUTABLE):
        return name, hint, default
    return name, hint, msgspec.field(default_factory=partial(copy.copy, default))


def _result_type(hint: Any) -> Any:
    return Any if hint in (typing.NoReturn, typing.Never) else hint
