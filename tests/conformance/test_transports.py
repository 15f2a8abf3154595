"""Every transport driver against the suite."""

from pathlib import Path

import pytest

from edow.sqlite import SqliteFile
from edow.transport.contract import Transport
from edow.transport.sqlite import SqliteTransport
from tests.conformance.transport_suite import TransportSuite


def sqlite(address: str) -> Transport:
    return SqliteTransport(SqliteFile(address))


class TestSqlite(TransportSuite):
    factory = "tests.conformance.test_transports:sqlite"

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "edow.db")
