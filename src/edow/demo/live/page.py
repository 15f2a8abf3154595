"""The live demo's page and its five buttons. A press must bring the show's own token; the API's gate has made sure that
it comes from a page of this server on this machine.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Redirect

from edow.api.problems import Refused
from edow.console.charts import chart
from edow.console.look import Look
from edow.console.render import Renderer, answer
from edow.demo.live.show import RATES, Show, now_us
from edow.errors import InvalidInput

PLACE = "/demo"
TITLE = "Live demo"
STYLE = Path(__file__).parent / "templates" / "demo.css"
Form = URLEncodedBody[dict[str, Any]]


def handlers(show: Show) -> list[BaseRouteHandler]:
    """The page, what it looks like, and what its buttons do; below PLACE."""
    presses = {
        "kill-worker": show.kill_worker,
        "kill-orchestrator": show.kill_orchestrator,
        "duplicate": show.switch_doubling,
        "poison": show.poison,
        "payments": show.switch_payments,
    }

    @get("/", opt={"access": "read"})
    async def page(
        request: Request[Any, Any, Any], look: NamedDependency[Look], render: NamedDependency[Renderer]
    ) -> Response[bytes]:
        return render.page(request, "demo.html", **await _shown(show, look))

    @get("/demo.css", opt={"access": "public"}, sync_to_thread=False)
    def style(request: Request[Any, Any, Any]) -> Response[bytes]:
        return answer(request, STYLE.read_bytes(), "text/css")

    @post("/{press:str}", opt={"access": "operate"})
    async def pressed(press: FromPath[str], data: Form) -> Redirect:
        if not hmac.compare_digest(str(data.get("token", "")).encode(), show.token.encode()):
            raise Refused(403, "this button belongs to another run of the demo; load the page again")
        if press == "rate":
            show.rate = _rate(str(data.get("rate", "")))
        elif press in presses:
            await presses[press]()
        else:
            raise InvalidInput(f"there is no button {press!r}; there are {', '.join(presses)}")
        return Redirect(PLACE, status_code=303)

    return [page, style, pressed]


async def _shown(show: Show, look: Look) -> dict[str, Any]:
    watcher = show.watcher
    return {
        "here": "demo",
        "show": show,
        "watcher": watcher,
        "counted": show.crew.counted(),
        "dead_letters": (await look.counts()).dead_letters,
        "rates": RATES,
        "now": now_us(),
        "charts": [
            chart("Orders ended", "per second", list(watcher.throughput), watcher.incidents),
            chart("Tasks waiting", "", list(watcher.waiting), watcher.incidents),
        ],
    }


def _rate(text: str) -> int:
    if text not in map(str, RATES):
        raise InvalidInput(f"rate {text!r} is none of {', '.join(map(str, RATES))}")
    return int(text)
