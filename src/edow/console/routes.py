"""Every address of the console: pages that look, forms that act, and the assets.

Who may use each is said by its `opt["access"]`, which the API's gate reads. A form's answer is a redirect to the page
that shows what became of it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from litestar import Response, get, post
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.response import Redirect

from edow.api.gate import COOKIE, refuse_other_origins
from edow.api.routes import Acting, Shared
from edow.client.audit import AuditFilter
from edow.client.handle import Handle
from edow.console import desk_routes, event_routes, job_routes, schedule_routes
from edow.console.crew import crew
from edow.console.execution import MEANINGS, view
from edow.console.forms import Asked, Form, Looking, Page, Rendering, json_of, positive, text
from edow.console.listing import PAGE, PERIODS, listing, search_of
from edow.console.look import Look
from edow.console.overview import overview
from edow.console.performance import WINDOWS, performance
from edow.console.problems import own_address
from edow.console.render import HERE, answer, root_of
from edow.console.traffic import traffic
from edow.errors import InvalidInput, NotFound, WrongState
from edow.model.execution import Standing

TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
ASSETS = {path.name: path for path in sorted((HERE / "assets").iterdir()) if path.suffix in TYPES}
SAID = {
    "cancel": "Cancellation was requested: the execution's cleanup and compensations run now.",
    "terminate": "The execution was asked to end as it stands.",
    "pause": "The execution was asked to pause: what comes is kept, and nothing goes out until it is resumed.",
    "resume": "The execution goes on, or is tried again.",
    "signal": "The signal was sent.",
}
"""What a page says after an action, by the key in its address: the address never brings words of its own."""


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/", opt={"access": "read"})
async def overview_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """How everything goes."""
    return render.page(request, "overview.html", here="overview", view=await overview(look))


@get("/executions", opt={"access": "read"})
async def executions_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """Search and list."""
    search = search_of(request.query_params, request.query_params.getall("status", []))
    view = await listing(look, search)
    query = request.query_params
    told = (positive(query.get("done")) or 0, positive(query.get("not")) or 0)
    return render.page(
        request,
        "executions.html",
        here="executions",
        view=view,
        statuses=list(Standing),
        periods=list(PERIODS),
        told=told if any(told) else None,
    )


@get("/executions/{id:str}", opt={"access": "read"})
async def execution_page(request: Asked, look: Looking, render: Rendering, id: FromPath[str]) -> Page:
    """One of them."""
    query = request.query_params
    shown = await view(look, id, positive(query.get("run")), positive(query.get("from")) or 1)
    said = SAID.get(query.get("said", ""), "")
    return render.page(request, "execution.html", here="executions", view=shown, meanings=MEANINGS, said=said)


@get("/topics", opt={"access": "read"})
async def topics_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """What waits for whom."""
    return render.page(request, "topics.html", here="topics", view=await traffic(look))


@get("/performance", opt={"access": "read"})
async def performance_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """What was measured."""
    view = await performance(look, request.query_params.get("window", "1h"))
    return render.page(request, "performance.html", here="performance", view=view, windows=list(WINDOWS))


@get("/processes", opt={"access": "read"})
async def processes_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """Who works."""
    return render.page(request, "processes.html", here="processes", view=await crew(look))


@get("/audit", opt={"access": "read"})
async def audit_page(request: Asked, look: Looking, render: Rendering) -> Page:
    """Who did what."""
    cursor = request.query_params.get("cursor") or None
    page = await look.shared.get(("audit", cursor), lambda: look.client.audit(AuditFilter(cursor=cursor)))
    return render.page(request, "audit.html", here="audit", page=page, paged=cursor is not None)


# ── actions ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@post("/executions/bulk", opt={"access": "operate"})
async def bulk(request: Asked, client: Acting, look: Looking) -> Redirect:
    """The same for those that are ticked: not more than there are on a page. Each is remembered by itself."""
    data = await request.form()
    verb, reason, back = (str(data.get(name) or "") for name in ("verb", "reason", "back"))
    ids = [str(each) for each in data.getall("ids", [])][:PAGE]
    done = sum([await _done_to(client.get(id), verb, reason) for id in ids])
    look.shared.forget()
    counts = urlencode({name: count for name, count in (("done", done), ("not", len(ids) - done)) if count})
    return Redirect(f"/executions?{'&'.join(filter(None, (_own(back), counts)))}", status_code=303)


@post("/executions/{id:str}/cancel", opt={"access": "operate"})
async def cancel(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    await client.get(id).cancel(text(data, "reason"))
    return _done(look, id, "cancel")


@post("/executions/{id:str}/terminate", opt={"access": "operate"})
async def terminate(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    await client.get(id).terminate(text(data, "reason"))
    return _done(look, id, "terminate")


@post("/executions/{id:str}/pause", opt={"access": "operate"})
async def pause(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    await client.get(id).pause(text(data, "reason"))
    return _done(look, id, "pause")


@post("/executions/{id:str}/resume", opt={"access": "operate"})
async def resume(client: Acting, look: Looking, id: FromPath[str]) -> Redirect:
    await client.get(id).resume()
    return _done(look, id, "resume")


@post("/executions/{id:str}/signal", opt={"access": "operate"})
async def signal(client: Acting, look: Looking, id: FromPath[str], data: Form) -> Redirect:
    name = text(data, "name")
    if not name:
        raise InvalidInput("a signal needs a name; see the workflow's wait_signal")
    await client.get(id).signal(name, json_of(data, "value"))
    return _done(look, id, "signal")


# ── coming in ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@get("/login", opt={"access": "public"})
async def login_page(request: Asked, render: Rendering) -> Page:
    """Where a browser without a token is sent."""
    to = own_address(request.query_params.get("to", "/"))
    return render.page(request, "login.html", here="login", problem="", to=to)


@post("/login", opt={"access": "public"})
async def login(request: Asked, backend: Shared, render: Rendering, data: Form) -> Response[Any]:
    """The token goes into a cookie that no script can read and no other site can send."""
    refuse_other_origins(request)
    given, to = text(data, "token"), own_address(text(data, "to"))
    token = await backend.client.tokens().check(given) if given else None
    if token is None:
        problem = "This token is not valid (any more)."
        return render.page(request, "login.html", 401, here="login", problem=problem, to=to)
    welcome = Redirect(to, status_code=303)
    secure = request.url.scheme == "https"
    welcome.set_cookie(COOKIE, given, path=root_of(request) or "/", httponly=True, samesite="strict", secure=secure)
    return welcome


@post("/logout", opt={"access": "public"})
async def logout(request: Asked) -> Redirect:
    refuse_other_origins(request)
    farewell = Redirect("/login", status_code=303)
    farewell.delete_cookie(COOKIE, path=root_of(request) or "/")
    return farewell


@get("/assets/{name:str}", opt={"access": "public"}, sync_to_thread=False)
def asset(request: Asked, name: FromPath[str]) -> Response[bytes]:
    """A file of the console's own."""
    path = ASSETS.get(name)
    if path is None:
        raise NotFound(f"there is no asset {name!r}; the console has {', '.join(ASSETS)}")
    return answer(request, path.read_bytes(), TYPES[path.suffix])


PAGES = (
    ("overview", "/", "Overview"),
    ("executions", "/executions", "Executions"),
    ("letters", "/dead-letters", "Dead letters"),
    ("schedules", "/schedules", "Schedules"),
    ("events", "/events", "Webhooks and events"),
    ("performance", "/performance", "Performance"),
    ("topics", "/topics", "Topics"),
    ("processes", "/processes", "Processes"),
    ("audit", "/audit", "Audit log"),
)
"""The navigation: a key, an address, and a title."""

ROUTES: tuple[BaseRouteHandler, ...] = (
    overview_page,
    executions_page,
    execution_page,
    topics_page,
    performance_page,
    processes_page,
    audit_page,
    bulk,
    cancel,
    terminate,
    pause,
    resume,
    signal,
    login_page,
    login,
    logout,
    asset,
    *desk_routes.ROUTES,
    *schedule_routes.ROUTES,
    *event_routes.ROUTES,
    *job_routes.ROUTES,
)


async def _done_to(handle: Handle[object], verb: str, reason: str) -> bool:
    """False: it was not possible, in the state that the execution is in. Raises InvalidInput."""
    try:
        match verb:
            case "cancel":
                await handle.cancel(reason)
            case "terminate":
                await handle.terminate(reason)
            case "pause":
                await handle.pause(reason)
            case "resume":
                await handle.resume()
            case _:
                raise InvalidInput(f"{verb!r} cannot be done to many; use cancel, terminate, pause or resume")
    except (WrongState, NotFound):
        return False
    return True


def _own(back: str) -> str:
    """The search to go back to, made anew from what came with the form: an address never comes from outside."""
    query = dict(parse_qsl(back.removeprefix("?")))
    search = search_of(query, [value for name, value in parse_qsl(back.removeprefix("?")) if name == "status"])
    return search.link().removeprefix("?")


def _done(look: Look, id: str, what: str) -> Redirect:
    look.shared.forget()
    return Redirect(f"/executions/{quote(id, safe='')}?said={what}", status_code=303)
