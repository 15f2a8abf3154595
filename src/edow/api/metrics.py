"""`/metrics` for Prometheus: how the whole system stands, as the store tells it."""

from __future__ import annotations

from litestar import Response, get

from edow.api.routes import Acting, allows
from edow.metrics.families import CONTENT_TYPE, exposition, of_system


@get(
    "/metrics",
    tags=["kpis"],
    summary="Metrics for Prometheus",
    media_type="text/plain",
    **allows("read"),
)
async def read_metrics(client: Acting) -> Response[str]:
    """Gauges in Prometheus's text format. Counters and histograms are told by orchestrators and workers themselves."""
    body = exposition(of_system(await client.kpis().snapshot()))
    return Response(body.decode(), headers={"Content-Type": CONTENT_TYPE})


PLACES = (read_metrics,)
