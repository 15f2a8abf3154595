"""Templates to answers: escaping always on, a strict content security policy, an ETag so that looking again is cheap.

Formats values; reads nothing.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from markupsafe import Markup, escape

from edow.api.gate import COOKIE
from edow.cli.output import duration, size
from edow.client.actor import Actor
from edow.client.outcome import standing_of
from edow.model.failure import Failure
from edow.model.times import microseconds_or, rfc3339
from edow.store.contract import DeadLetter

HERE = Path(__file__).parent

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def environment(folders: list[str]) -> Environment:
    """Jinja2 with the console's filters. Whatever a template was not given is an error."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "duration": duration,
        "size": size,
        "when": rfc3339,
        "clock": clock,
        "coded": coded,
        "number": number,
        "rate": rate,
        "said": said,
        "standing": standing_of,
        "microseconds": lambda text: microseconds_or(text, 0),
        "path": lambda text: quote(str(text), safe=""),
    }
    return made


def clock(at: int) -> str:
    """`2026-11-28 20:39:03`, in UTC."""
    return rfc3339(at)[:19].replace("T", " ")


def coded(text: str) -> Markup:
    """What stands between backticks as code, escaped like the rest."""
    parts = [
        Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(text.split("`"))
    ]
    return Markup().join(parts) if len(parts) % 2 else escape(text)


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def rate(value: float | None) -> str:
    """Per second."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:,.1f}"


def said(letter: DeadLetter) -> str:
    """What the failure of a dead letter says."""
    failure = msgspec.json.decode(letter.failure, type=Failure | None)
    return failure.message if failure else ""


def answer(request: Request[Any, Any, Any], body: bytes, kind: str, code: int = 200) -> Response[bytes]:
    """What the browser asks for, or 304 if it has exactly this."""
    tag = f'"{blake2b(body, digest_size=9).hexdigest()}"'
    headers = {**HEADERS, "ETag": tag}
    if code == 200 and request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    return Response(body, status_code=code, headers=headers, media_type=kind)


def root_of(request: Request[Any, Any, Any]) -> str:
    """Before every address of ours: where whoever serves this application has put it; "" for the root itself."""
    return str(request.scope.get("root_path") or "").rstrip("/")


class Renderer:
    """`shared` are values that every page needs."""

    def __init__(self, **shared: Any) -> None:
        self._folders = [str(HERE / "templates")]
        self._shared = shared
        self._templates = self._made()

    def also(self, folder: Path) -> None:
        """Templates of somebody else's, which may extend the console's."""
        self._folders.append(str(folder))
        self._templates = self._made()

    def page(self, request: Request[Any, Any, Any], template: str, code: int = 200, **values: Any) -> Response[bytes]:
        """The page; see `answer`."""
        user = request.scope.get("user")
        actor = user if isinstance(user, Actor) else None  # nobody, where everybody may look
        values |= {"signed_in": COOKIE in request.cookies, "root": root_of(request), "actor": actor}
        values["may_act"] = actor is not None and actor.may("operate")
        body = self._templates.get_template(template).render(**values).encode()
        return answer(request, body, "text/html", code)

    def _made(self) -> Environment:
        templates = environment(self._folders)
        templates.globals |= self._shared
        return templates
