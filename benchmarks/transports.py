"""`make bench-transports`: `edow bench steps` and `latency` on each transport whose server is up, one after the other.

Each figure stands beside its bare ceiling, which the same run has measured. With `--write` the table in
docs/performance.md is written anew, between its two marks.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
BEGIN, END = "<!-- transports: begin -->", "<!-- transports: end -->"
SECONDS = 300  # for one scenario
BROKERS = {
    "Redis Streams": "EDOW_REDIS",
    "NATS JetStream": "EDOW_NATS",
    "Kafka": "EDOW_KAFKA",
    "RabbitMQ": "EDOW_RABBITMQ",
    "Pub/Sub (pstest)": "EDOW_PUBSUB",
    "SNS + SQS (moto)": "EDOW_SQS",
    "SQS (ElasticMQ)": "EDOW_ELASTICMQ",
}
HEADERS = ("state", "messages", "steps/s", "bare ceiling", "ratio", "one step p50", "p99")


class Place(NamedTuple):
    """`arguments` name store and transport to `edow bench`."""

    store: str
    transport: str
    arguments: tuple[str, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", help="transports whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[Place, list[dict[str, Any]]] = {}
    for place in places(options.only or ""):
        say(f"{place.store}, {place.transport}")
        rows[place] = [bench(place, "steps", "--rounds", str(options.rounds)), bench(place, "latency", "--processes")]
    cells = [row(place, *measured) for place, measured in rows.items()]
    if options.json:
        sys.stdout.write(json.dumps([dict(zip(HEADERS, each, strict=True)) for each in cells]) + "\n")
    else:
        show(cells)
    if options.write:
        write(cells)
    return int(any("error" in each for measured in rows.values() for each in measured))


def places(only: str) -> list[Place]:
    """Every transport there is a server for; SQLite needs none."""
    found = [Place("SQLite", "SQLite", ())]
    if postgresql := os.environ.get("EDOW_POSTGRES"):
        found.append(Place("PostgreSQL", "PostgreSQL", ("--store", postgresql)))
        for name, variable in BROKERS.items():
            if broker := os.environ.get(variable):
                found.append(Place("PostgreSQL", name, ("--store", postgresql, "--transport", broker)))
    return [each for each in found if only.lower() in each.transport.lower()]


def bench(place: Place, scenario: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "edow", "bench", scenario, "--json", *arguments, *place.arguments]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"error": f"has not ended in {SECONDS} s"}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(place: Place, steps: dict[str, Any], latency: dict[str, Any]) -> list[str]:
    cells = [place.store, place.transport]
    if "error" in steps:
        cells += [f"failed: {steps['error']}", "", ""]
    else:
        cells += [f"{steps['steps_per_second']:,.0f}", f"{steps['ceiling_steps_per_second']:,.0f}"]
        cells.append(f"{steps['ratio']:.2f}")
    if "error" in latency:
        return [*cells, f"failed: {latency['error']}", ""]
    return [*cells, *(f"{latency['latency_ms'][name]:.1f} ms" for name in ("p50", "p99"))]


def show(cells: list[list[str]]) -> None:
    table = Table(*HEADERS)
    for each in cells:
        table.add_row(*each)
    Console().print(table)


def write(cells: list[list[str]]) -> None:
    lines = [HEADERS, ("---", "---", *["--:"] * (len(HEADERS) - 2)), *cells]
    table = "\n".join("| " + " | ".join(each) + " |" for each in lines)
    page = PAGE.read_text()
    marked = re.compile(f"{BEGIN}.*{END}", re.DOTALL)
    if not marked.search(page):
        raise SystemExit(f"{PAGE} has no place for the table: {BEGIN} … {END}")
    PAGE.write_text(marked.sub(lambda _: f"{BEGIN}\n{table}\n{END}", page))


def say(text: str) -> None:
    sys.stderr.write(f"  {text}\n")


if __name__ == "__main__":
    sys.exit(main())
