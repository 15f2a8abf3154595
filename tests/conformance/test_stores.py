"""Every store driver against the suite."""

from pathlib import Path

import pytest

from edow.sqlite import SqliteFile
from edow.store.contract import Store
from edow.store.sqlite import SqliteStore
from tests.conformance.store_suite import StoreSuite


def sqlite(address: str) -> Store:
    return SqliteStore(SqliteFile(address))


class TestSqlite(StoreSuite):
    factory = "tests.conformance.test_stores:sqlite"

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "edow.db")
