"""docs/failures.md: what is broken, how, and a line for each run, written by the runs themselves.

A run replaces its own line and leaves the others, so that the page can be made bit by bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.failures.faults import FAULTS
from scripts.failures.model import Result
from scripts.failures.place import TRANSPORTS

PLACE = ("fault", "transport")
FIGURES = (
    "executions",
    "under way",
    "ended",
    "effects",
    "lost",
    "twice",
    "strikes",
    "pause",
    "recovery",
    "wait",
    "spread",
    "memory",
    "grown",
)
COLUMNS = (*PLACE, *FIGURES, "shards")

TITLE = """# What happens when things break

Written by `make failures`; do not edit.

PostgreSQL, a broker, three orchestrators and three workers, all on one machine of two cores.
Thousands of executions are under way, of three steps with two signals in between, and some that fan out into a
hundred steps each, when one thing breaks.
Every step adds a row to a table in the same PostgreSQL, once (`edow.once`), and at the end the rows are counted:
an effect that is missing is *lost*, one that was applied again is *twice*.
A line in bold is a run that did not come out clean.

Every server and process is real, and belongs to the run alone.
`python -m scripts.failures --help` tells how to repeat one.

## What is broken

"""

LEGEND = """
Hosts are network namespaces with a cable to the database and one to the broker; being cut off is a cable that is
pulled, so that what is sent vanishes and no connection is closed.
`chaos` has the size of a chaos test that another system has published: 5,000 executions, 10,000 signals, 30 fan-outs.

## What came of it

| column | meaning |
|---|---|
| under way | executions that had not ended when the fault struck first |
| pause | seconds: the longest that a shard (a twelfth of all executions) applied no effect, from the fault on |
| recovery | how much of such a pause came after everything was whole again; after a kill, all of it |
| wait | the longest that an execution took from its signals to its last effect, outage included |
| spread | the longest that the shards took to be spread evenly over the orchestrators that could be reached |
| memory, grown | MB of the largest orchestrator at most, and by how much more that is than when the fault struck |
| shards | of each orchestrator at the end |

Times are those of a busy machine, whose two cores run all of it: an execution waits for its turn, too, not only for
what has failed.
What is counted does not depend on that.

"""

HEAD = f"| {' | '.join(COLUMNS)} |\n|{' - |' * len(PLACE)}{' -: |' * len(FIGURES)} - |\n"


def cells(result: Result) -> list[str]:
    counts = (result.executions, result.under_way, result.ended, result.effects)
    wrongs = (result.lost, result.twice, result.strikes)
    times = (result.pause_seconds, result.recovery_seconds, result.wait_seconds, result.spread_seconds)
    return [
        result.fault,
        result.transport,
        *(f"{count:,}" for count in (*counts, *wrongs)),
        *(f"{seconds:.1f}" for seconds in times),
        f"{result.peak_mb}",
        f"{result.grown_mb}",
        "/".join(map(str, result.shards)),
    ]


def write(path: Path, results: Sequence[Result]) -> None:
    lines = _lines(path.read_text("utf-8")) if path.exists() else {}
    for result in results:
        shown = cells(result)
        marked = shown if result.good else [f"**{cell}**" for cell in shown]
        lines[result.fault, result.transport] = f"| {' | '.join(marked)} |\n"
    path.write_text(_page(lines), "utf-8")


def _page(lines: Mapping[tuple[str, str], str]) -> str:
    faults = "".join(f"- `{name}`: {fault.help}\n" for name, fault in FAULTS.items())
    keys = [(fault, transport) for fault in FAULTS for transport in TRANSPORTS]
    return TITLE + faults + LEGEND + HEAD + "".join(lines[key] for key in keys if key in lines)


def _lines(text: str) -> dict[tuple[str, str], str]:
    """The table's lines in a page, by fault and transport."""
    found: dict[tuple[str, str], str] = {}
    for line in text.splitlines(keepends=True):
        parts = [part.strip(" *") for part in line.split("|")]
        if len(parts) == len(COLUMNS) + 2 and parts[1] in FAULTS:
            found[parts[1], parts[2]] = line
    return found
