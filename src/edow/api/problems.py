"""The one place where an exception becomes an HTTP answer. Never a traceback, and never a 5xx for bad input."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

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


def of_http(_request: Request[Any, Any, Any], problem: HTTPException) -> Response[Problem]:
    """What the framework or the gate refuses: no such route, another method, a body that does not fit."""
    if not isinstance(problem, ValidationException):
        status = problem.status_code
        message, _, remedy = (problem.detail or HTTPStatus(status).description).partition("; ")
        return answer(status, Problem(_name(status), message, remedy), problem.headers)
    extra = problem.extra if isinstance(problem.extra, list) else []
    said = "; ".join(f"{each.get('key', 'body')}: {each.get('message')}" for each in extra if isinstance(each, dict))
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


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
