"""What every test shares."""

import compileall
import gc
import os
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.servers import servers_named, servers_required

# Servers run as another user, so they are forked; a copy of gRPC's threads that goes on in the child, whose files are
# being closed, ends it before it is a server.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# The shared suites are not named test_*.py, and their asserts should explain themselves too.
pytest.register_assert_rewrite("tests.conformance")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--matrix", metavar="FILE", help="write what each transport guarantees")


def pytest_configure(config: pytest.Config) -> None:
    """Processes that tests start are interrupted by Ctrl-C, also where the tests run in the background of a shell.

    And hundreds of them import EDOW: it is compiled once and not by each, also where PYTHONDONTWRITEBYTECODE is set.
    """
    from tests.conformance.matrix import Matrix

    if not hasattr(config, "workerinput"):
        for folder in ("src", "scripts", "tests"):
            compileall.compile_dir(config.rootpath / folder, quiet=2, rx=re.compile(r"/test_\w+\.py$"))
    if path := config.getoption("--matrix"):
        config.pluginmanager.register(Matrix(Path(path)))
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What is imported and collected by now stays until the end, and the garbage collector need not walk it for each
    test: half a second each time, in tests that make much garbage or ask for a collection the most of their time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The URL of a fresh one of each kind, for a test that holds on both."""
    from tests.conformance.postgresql import own_schema

    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/store.db"
    else:
        async with own_schema() as url:
            yield url


def pytest_report_header() -> str:
    """Which real servers the tests will use."""
    named = ", ".join(servers_named()) or "none (see `scripts/services status`)"
    return f"servers: {named}{'; all are required' if servers_required() else ''}"
