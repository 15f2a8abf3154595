"""`/api/v1/kpis`, `/slos`, `/alerts`, `/incidents`, `/prices`: what was measured and how it stands."""

from __future__ import annotations

from litestar import delete, get, post, put
from litestar.params import FromPath, FromQuery, JSONBody

from edow.api.routes import ACTS, SHOWS, Acting, allows
from edow.client.kpis import AlertView, IncidentView, OrchestratorView, SeriesPoint, SloSpec, SloView
from edow.kpi.alert import Thresholds
from edow.kpi.cost import Prices
from edow.kpi.summary import Summary

TAGS = ["kpis"]


@get("/kpis", tags=TAGS, summary="What was measured", **allows("read"))
async def show_kpis(client: Acting, window: FromQuery[str] = "5m") -> Summary:
    """Executions, tasks by stage, traffic, lag, hot keys and cost of the last so much time, like `5m`, `7d`."""
    return await client.kpis().summary(window)


@get("/kpis/series", tags=TAGS, summary="The same over time", **allows("read"))
async def show_kpi_series(
    client: Acting, window: FromQuery[str] = "1h", workflow: FromQuery[str | None] = None
) -> list[SeriesPoint]:
    """In tens of seconds within an hour, in minutes within a day, in hours within ninety days."""
    return await client.kpis().series(window, workflow)


@get("/slos", tags=TAGS, summary="List objectives", **allows("read"))
async def list_slos(client: Acting) -> list[SloView]:
    """All of them, by name, and how they stand."""
    return await client.kpis().slos()


@post("/slos", tags=TAGS, summary="Make an objective", **allows("operate", 409))
async def create_slo(client: Acting, data: JSONBody[SloSpec]) -> SloView:
    """Of a workflow's executions so many shall complete, where it is asked in time."""
    return await client.kpis().create_slo(data)


@get("/slos/{name:str}", tags=TAGS, summary="Show an objective", **SHOWS)
async def show_slo(client: Acting, name: FromPath[str]) -> SloView:
    """One of them."""
    return await client.kpis().slo(name)


@delete("/slos/{name:str}", tags=TAGS, summary="Delete an objective", **ACTS)
async def delete_slo(client: Acting, name: FromPath[str]) -> None:
    """Its alerts are over."""
    await client.kpis().delete_slo(name)


@get("/alerts", tags=TAGS, summary="List alerts", **allows("read"))
async def list_alerts(client: Acting) -> list[AlertView]:
    """Those that hold first, then the latest that held."""
    return await client.kpis().alerts()


@get("/alerts/thresholds", tags=TAGS, summary="Show from when on there are alerts", **allows("read"))
async def show_thresholds(client: Acting) -> Thresholds:
    """Those of dead letters, lag and executions that are stuck; those of objectives are their own."""
    return await client.kpis().thresholds()


@put("/alerts/thresholds", tags=TAGS, summary="Set from when on there are alerts", **allows("operate"))
async def set_thresholds(client: Acting, data: JSONBody[Thresholds]) -> Thresholds:
    """All of them: what is left out has its default again."""
    return await client.kpis().set_thresholds(data)


@get("/incidents", tags=TAGS, summary="List incidents", **allows("read"))
async def list_incidents(client: Acting) -> list[IncidentView]:
    """Faults, and how long it took to recover; the latest first."""
    return await client.kpis().incidents()


@get("/orchestrators", tags=TAGS, summary="List orchestrators", **allows("read"))
async def list_orchestrators(client: Acting) -> list[OrchestratorView]:
    """Those that run, or did until a moment ago, and the shards that each serves."""
    return await client.kpis().orchestrators()


@get("/prices", tags=TAGS, summary="Show the price list", **allows("read"))
async def show_prices(client: Acting) -> Prices:
    """All zero if nobody has set one."""
    return await client.kpis().prices() or Prices()


@put("/prices", tags=TAGS, summary="Set the price list", **allows("operate"))
async def set_prices(client: Acting, data: JSONBody[Prices]) -> Prices:
    """From now on costs are told in money, also those of the past."""
    return await client.kpis().set_prices(data)


ROUTES = (
    show_kpis,
    show_kpi_series,
    list_slos,
    create_slo,
    show_slo,
    delete_slo,
    list_alerts,
    show_thresholds,
    set_thresholds,
    list_incidents,
    list_orchestrators,
    show_prices,
    set_prices,
)
