"""The live demo's page and its five buttons. A press must bring the show's own token; the API's gate has made sure that
it comes from a page of this server on this machine.
"""

from __future__ import annotations

import hmac
from typing import Annotated, Any

from litestar import Request, Response, Router, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import Redirect

from edow.api.problems import Refused
from edow.console.charts import chart
from edow.console.render import Renderer
from edow.demo.live.show import RATES, Show, now_us
from edow.errors import InvalidInput

PLACE = "/demo"
Form = Annotated[dict[str, Any], Body(media_type=RequestEncodingType.URL_ENCODED)]


def router(show: Show, render: Renderer) -> Router:
    """The page, below PLACE."""
    presses = {
        "kill-worker": show.kill_worker,
        "kill-orchestrator": show.kill_orchestrator,
        "duplicate": show.switch_doubling,
        "poison": show.poison,
        "payments": show.switch_payments,
    }

    @get("/", opt={"access": "read"})
    async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
        watcher, now = show.watcher, now_us()
        return render.page(
            request,
            "demo.html",
            here="demo",
            show=show,
            watcher=watcher,
            counted=show.crew.counted(),
            rates=RATES,
            now=now,
            charts=[
                chart("Orders ended", "per second", list(watcher.throughput), watcher.incidents),
                chart("Tasks waiting", "", list(watcher.waiting), watcher.incidents),
            ],
        )

    @post("/{press:str}", opt={"access": "operate"})
    async def pressed(press: str, data: Form) -> Redirect:
        if not hmac.compare_digest(str(data.get("token", "")), show.token):
            raise Refused(403, "this button belongs to another run of the demo; load the page again")
        if press == "rate":
            show.rate = _rate(str(data.get("rate", "")))
        elif press in presses:
            await presses[press]()
        else:
            raise InvalidInput(f"there is no button {press!r}; there are {', '.join(presses)}")
        return Redirect(PLACE, status_code=303)

    return Router(PLACE, route_handlers=[page, pressed], include_in_schema=False)


def _rate(text: str) -> int:
    if text not in map(str, RATES):
        raise InvalidInput(f"rate {text!r} is none of {', '.join(map(str, RATES))}")
    return int(text)
