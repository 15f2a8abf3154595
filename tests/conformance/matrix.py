"""The tables of what each transport guarantees, written from a run of the tests: `pytest ... --matrix FILE`.

A cell is what happened against the real server: proven, not offered (the driver says so in its `Features`), or failed.
The suite gives the rows that it has; what a driver's own tests, or those of the whole system, prove besides is marked
with `@pytest.mark.proves(ROW, TRANSPORT)`.
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
BY_SERVER = {
    "SQLITE": "SQLite",
    "POSTGRES": "PostgreSQL",
    "REDIS": "Redis Streams",
    "RABBITMQ": "RabbitMQ",
    "NATS": "NATS JetStream",
    "KAFKA": "Kafka",
    "PUBSUB": "Pub/Sub",
    "SQS": "SNS + SQS",
    "ELASTICMQ": "SQS on ElasticMQ",
}
"""The same, by the parameter `name` of tests of the whole system."""

AWAY = "The server goes away in mid-stream and comes back: all go on by themselves, and what it has kept is there."
FROZEN = "A server that answers nobody is given up in time, and used again when it does."
STRANGER = "Wrong credentials are told at open, with the remedy and without the secret."
DENIED = "A right that is missing is told, with the remedy."
DELETED = "What somebody deletes on the server is made again."
BY_HALF = "What the server has not taken of a batch is named."
FAULTS = {
    "lost": "Messages that were acknowledged are lost: executions end, and effects apply once.",
    "doubled": "Messages come twice: the same.",
    "late": "Messages come late: the same.",
    "reordered": "Messages come out of order: the same.",
    "all": "All of that at once: the same.",
}
PROOFS = (AWAY, FROZEN, DELETED, BY_HALF, STRANGER, DENIED, *FAULTS.values())

TITLE = """# What each transport guarantees

Written by `make matrix` from a run of one suite against the real servers; do not edit.
✓ proven · – not offered by the driver, which says so (see [Writing a driver](drivers.md)). What a broker lacks EDOW
makes up for above it, or refuses at start.
"""
TROUBLE = """## Trouble

What goes wrong at the server, by tests of each driver on a server of their own; and messages that a real transport has
acknowledged and then loses, doubles, delays or reorders, by a wrapper around the driver, under the whole system.
An empty cell is no promise that is missing: there is no server, nothing that could go wrong in this way (a batch that
is one transaction), or a stand-in that has no such state, beside another that has.
"""


class Note(msgspec.Struct, frozen=True):
    """What one test says of one transport. It travels with the test's report, also from another process."""

    transport: str
    features: Features | None  # None: a row of the second kind
    line: int  # of the scenario, for the order of the rows
    scenario: str
    sign: str


class Matrix:
    """A pytest plugin: collects, and writes at the end. With `-n` it is in every process, and the first one writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._features: dict[str, Features] = {}
        self._cells: dict[tuple[int, str], dict[str, str]] = {}
        self._proofs: dict[tuple[int, str], dict[str, str]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
        outcome: Any = yield
        report = outcome.get_result()
        if report.when == "call" or report.outcome != "passed":
            for note in _notes(item, report.outcome):
                report.user_properties.append((PROPERTY, msgspec.json.encode(note).decode()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, str):
                self._take(msgspec.json.decode(value, type=Note))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._cells and not hasattr(session.config, "workerinput"):
            self._path.write_text(self._text(), encoding="utf-8")

    def _take(self, note: Note) -> None:
        if note.features is not None:
            self._features[note.transport] = note.features
        rows = self._proofs if note.features is None else self._cells
        row = rows.setdefault((note.line, note.scenario), {})
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
        scenarios = ["", "## Scenarios", "", *_table("scenario", names, rows), ""]
        return "\n".join([*above, *scenarios, TROUBLE, *self._trouble(), ""])

    def _trouble(self) -> list[str]:
        names = sorted({name for row in self._proofs.values() for name in row})
        rows = [[proof, *(row.get(name, "") for name in names)] for (_, proof), row in sorted(self._proofs.items())]
        return _table("what happens", names, rows)


def _notes(test: Any, outcome: str) -> Iterator[Note]:
    if hasattr(test.cls, "factory") and "transport" in test.fixturenames and test.funcargs.get("transport") is not None:
        yield _note(test, outcome)
    for mark in test.iter_markers("proves"):
        row, transport = mark.args if len(mark.args) > 1 else (*mark.args, BY_SERVER[test.callspec.params["name"]])
        if outcome != "skipped":
            yield Note(transport, None, PROOFS.index(row), row, SIGNS[outcome])


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
