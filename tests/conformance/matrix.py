"""The table of what each transport guarantees, written from a run of the suite: `pytest ... --matrix FILE`.

A cell is what happened against the real server: proven, not offered (the driver says so in its `Features`), or failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edow.transport.contract import Features
from tests.conformance.transport_suite import TransportSuite

PROPERTY = "matrix"
PROVEN, MISSING, FAILED = "✓", "–", "✗"
SIGNS = {"passed": PROVEN, "skipped": MISSING, "failed": FAILED}
NAMES = {
    "Sqlite": "SQLite",
    "Postgresql": "PostgreSQL",
    "Redis": "Redis Streams",
    "Nats": "NATS JetStream",
    "Rabbitmq": "RabbitMQ",
    "RabbitmqClassic": "RabbitMQ, classic queues",
    "Pubsub": "Pub/Sub",
    "Sqs": "SNS + SQS",
    "SqsStandardQueues": "SQS, standard queues",
    "ElasticMq": "SQS on ElasticMQ",
}
"""What people call it, by the name of its suite."""
TITLE = """# What each transport guarantees

Written by `make matrix` from a run of one suite against the real servers; do not edit.
✓ proven · – not offered by the driver, which says so (see [Writing a driver](drivers.md)). What a broker lacks EDOW
makes up for above it, or refuses at start.
"""


class Note(msgspec.Struct, frozen=True):
    """What one test says of one transport. It travels with the test's report, also from another process."""

    transport: str
    features: Features
    line: int  # of the scenario, for the order of the rows
    scenario: str
    sign: str


class Matrix:
    """A pytest plugin: collects, and writes at the end. With `-n` it is in every process, and the first one writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._features: dict[str, Features] = {}
        self._cells: dict[tuple[int, str], dict[str, str]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        test: Any = item
        if not hasattr(test.cls, "factory") or "transport" not in test.fixturenames:
            return
        if (report.when == "call" or report.outcome != "passed") and test.funcargs.get("transport") is not None:
            report.user_properties.append((PROPERTY, msgspec.json.encode(_note(test, report.outcome)).decode()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, str):
                self._take(msgspec.json.decode(value, type=Note))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._cells and not hasattr(session.config, "workerinput"):
            self._path.write_text(self._text(), encoding="utf-8")

    def _take(self, note: Note) -> None:
        self._features[note.transport] = note.features
        row = self._cells.setdefault((note.line, note.scenario), {})
        if row.get(note.transport) != FAILED:
            row[note.transport] = note.sign

    def _text(self) -> str:
        names = sorted(self._features)
        fields = [field.name for field in msgspec.structs.fields(Features) if field.name != "name"]
        told = {field: [_told(getattr(self._features[name], field)) for name in names] for field in fields}
        features = [[f"`{field}`", *cells] for field, cells in told.items()]
        rows = [
            [scenario, *(row.get(name, MISSING) for name in names)]
            for (_, scenario), row in sorted(self._cells.items())
        ]
        above = [TITLE, "## Features", "", *_table("feature", names, features)]
        return "\n".join([*above, "", "## Scenarios", "", *_table("scenario", names, rows), ""])


def _note(test: Any, outcome: str) -> Note:
    suite = test.cls.__name__.removeprefix("Test")
    scenario: Any = getattr(TransportSuite, test.function.__name__, test.function)  # a driver may have its own way
    return Note(
        NAMES.get(suite, suite),
        test.funcargs["transport"].features,
        scenario.__code__.co_firstlineno,
        " ".join(scenario.__doc__.split()),
        SIGNS[outcome],
    )


def _told(value: object) -> str:
    if isinstance(value, bool):
        return PROVEN if value else MISSING
    return f"{value:,}"


def _table(first: str, names: list[str], rows: list[list[str]]) -> list[str]:
    lines = [[first, *names], ["---", *[":-:"] * len(names)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
