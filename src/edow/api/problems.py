"""The one place where an exception becomes an HTTP answer. Never a traceback, and never a 5xx for bad input."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, get_args, get_type_hints

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from edow import errors
from edow.errors import EdowError

log = logging.getLogger("edow.api")

STATUSES: tuple[tuple[type[EdowError], int], ...] = (  # the first that fits
    (errors.PayloadTooLarge, 413),
    (errors.SignatureMismatch, 422),
    (errors.InvalidInput, 400),
    (errors.NotFound, 404),
    (errors.AlreadyExists, 409),
    (errors.WrongState, 409),
    (errors.RecordChanged, 409),
    (errors.Unsupported, 501),
    (errors.Unavailable, 503),
    (errors.CallerError, 400),
)
RETRY_SECONDS = 1
TRUNCATED = "Input data was truncated"  # what the decoder says of either
BROKEN = "the body is no JSON: it ends too early, or has half of a pair of surrogates (\\ud800 to \\udfff)"


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was not served. `error` is for programs, `message` and `remedy` are for people."""

    error: str
    message: str
    remedy: str = ""


class Refused(HTTPException):
    """A request that is answered with `status`, whatever it asks for."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail=message, status_code=status, headers=headers)


def of_edow(_request: Request[Any, Any, Any], problem: EdowError) -> Response[Problem]:
    """An error that EDOW raised on purpose."""
    status = next((status for kind, status in STATUSES if isinstance(problem, kind)), 500)
    if status == 500:
        log.error("a request failed: %s", problem, exc_info=problem)
    message, _, remedy = str(problem).partition("; ")
    headers = {"Retry-After": str(RETRY_SECONDS)} if status == 503 else None
    return answer(status, Problem(type(problem).__name__, message, remedy), headers)


def of_http(request: Request[Any, Any, Any], problem: HTTPException) -> Response[Problem]:
    """What the framework or the gate refuses: no such route, another method, a body that does not fit."""
    if not isinstance(problem, ValidationException):
        status = problem.status_code
        detail = BROKEN if problem.detail == TRUNCATED else problem.detail or HTTPStatus(status).description
        message, _, remedy = detail.partition("; ")
        return answer(status, Problem(_name(status), message, remedy), problem.headers)
    extra = problem.extra if isinstance(problem.extra, list) else []
    said = "; ".join(_unfit(request, each) for each in extra if isinstance(each, dict))
    return answer(422, Problem("InvalidInput", said or problem.detail, "see /openapi.json for what is accepted"), None)


def of_depth(_request: Request[Any, Any, Any], problem: RecursionError) -> Response[Problem]:
    """JSON that is nested deeper than any decoder here follows it."""
    log.warning("a request was refused: %s", problem)
    return answer(400, Problem("InvalidInput", "the body is nested too deeply", "send a flatter one"), None)


def of_bug(_request: Request[Any, Any, Any], problem: Exception) -> Response[Problem]:
    """What nobody expected: told to the log, and to the client only that it happened."""
    log.error("a request failed", exc_info=problem)
    return answer(500, Problem("Bug", "something went wrong inside; the server's log says what"), None)


def answer(status: int, problem: Problem, headers: dict[str, str] | None) -> Response[Problem]:
    return Response(problem, status_code=status, headers=headers or {}, media_type="application/json")


def _unfit(request: Request[Any, Any, Any], each: dict[str, Any]) -> str:
    """What is wrong with a parameter, or with a part of the body."""
    key, message = each.get("key", "body"), str(each.get("message"))
    if (key, message) == ("data", "'data'"):
        return "the body is empty: send a JSON object"
    if message.startswith("Invalid enum value"):
        words = _words(_annotation(request, key))
        message += f", use one of {', '.join(words)}" if words else ""
    return f"{query_names(request.route_handler).get(key, key)}: {message}"


def query_names(handler: BaseRouteHandler) -> dict[str, str]:
    """What each is called in the URL, by the name of the function's parameter."""
    kinds = {name: each.kwarg_definition for name, each in handler.parsed_fn_signature.parameters.items()}
    return {name: kind.name or name for name, kind in kinds.items() if isinstance(kind, QueryParameter)}


def _annotation(request: Request[Any, Any, Any], key: str) -> object:
    """Of a parameter, or of a field of the body; None for what is deeper."""
    handler = request.route_handler
    if (parameter := handler.parsed_fn_signature.parameters.get(key)) is not None:
        return parameter.annotation
    return get_type_hints(handler.parsed_data_field.annotation).get(key) if handler.parsed_data_field else None


def _words(annotation: object) -> tuple[str, ...]:
    """That a literal type has, wherever in it."""
    if isinstance(annotation, str):
        return (annotation,)
    return tuple(dict.fromkeys(word for part in get_args(annotation) for word in _words(part)))


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
