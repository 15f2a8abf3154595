"""`/api/v1/executions`: start, look, wait, act."""

from __future__ import annotations

from litestar import get
from litestar.params import FromPath

from edow.api.routes import Acting, allows
from edow.api.views import ExecutionView, execution_view

TAGS = ["executions"]


@get("/executions/{id:str}", tags=TAGS, summary="Describe an execution", **allows("read", 404))
async def describe(client: Acting, id: FromPath[str]) -> ExecutionView:
    """The execution as it is now."""
    return execution_view(await client.get(id).describe())


ROUTES = (describe,)
