"""The application on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.api.serving import Api, serving
from tests.conformance.postgresql import own_schema


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgresql"])
async def each(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    """On SQLite and on PostgreSQL."""
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(own_schema()) if request.param == "postgresql" else tmp_path
        yield await stack.enter_async_context(serving(store))
