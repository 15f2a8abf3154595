"""Errors as pages: what was wrong, and what to do about it. Statuses are the API's."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote, urlencode

from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Redirect

from edow.api.problems import STATUSES
from edow.console.render import Renderer, root_of
from edow.errors import EdowError

log = logging.getLogger("edow.console")

Asked = Request[Any, Any, Any]


class Problems:
    def __init__(self, render: Renderer) -> None:
        self._render = render

    def of_edow(self, request: Asked, problem: EdowError) -> Response[Any]:
        """An error that EDOW raised on purpose."""
        status = next((status for kind, status in STATUSES if isinstance(problem, kind)), 500)
        if status == 500:
            log.error("a page failed: %s", problem, exc_info=problem)
        return self._page(request, status, str(problem))

    def of_http(self, request: Asked, problem: HTTPException) -> Response[Any]:
        """What the gate refuses; who has no token is asked for one."""
        if problem.status_code == 401 and request.method == "GET":
            return Redirect(sign_in(request), status_code=303)
        return self._page(request, problem.status_code, problem.detail or "")

    def _page(self, request: Asked, status: int, said: str) -> Response[bytes]:
        message, _, remedy = said.partition("; ")
        return self._render.page(
            request, "problem.html", status, here="", status=status, message=message, remedy=remedy
        )


def sign_in(request: Asked) -> str:
    """The address of the page that asks for a token, and goes on to where one wanted to go."""
    wanted = quote(str(request.scope["path"]).removeprefix(root_of(request)))
    query = request.scope["query_string"].decode("ascii", "replace")
    address = own_address(f"{wanted}?{query}" if query else wanted)
    return "/login" if address == "/" else "/login?" + urlencode({"to": address}, safe="/")


def own_address(text: str) -> str:
    """It, if it is one of this site as it stands in a header; "/" for whatever a browser might take for another's."""
    plain = text.isascii() and text.isprintable() and not any(each in text for each in " \\")
    return text if plain and text.startswith("/") and not text.startswith("//") else "/"
