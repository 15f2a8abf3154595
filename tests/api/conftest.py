"""The application on each store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.serving import Api, serving


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with serving(tmp_path) as made:
        yield made


@pytest.fixture
async def each(database: str) -> AsyncIterator[Api]:
    """On SQLite and on PostgreSQL."""
    async with serving(database) as made:
        yield made
