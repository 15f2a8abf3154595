"""`make bench-peers`: the same three-step workflow on EDOW and on its peers, one after the other on this machine.

Needs PostgreSQL and Redis (`scripts/services up postgres redis`), node and npm for Restate's server. Everything else
is installed into `.peers/` in the checkout. Each peer runs as its own documentation sets it up, workers in a process of
their own where it has workers; all of them wait for the disk but those that are not durable.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = ROOT / ".peers"
PYTHON = HOME / "venv" / "bin" / "python"
RESTATE = HOME / "node" / "node_modules" / ".bin" / "restate-server"
RESTATE_PACKAGE = "@restatedev/restate-server@1.7.12"
SECONDS = 180
DURABLE = {"temporal": True, "dbos": True, "restate": True, "celery": False, "taskiq": False}
IN_FLIGHT = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("peers", nargs="*", default=list(DURABLE), help=", ".join(DURABLE))
    parser.add_argument("--executions", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    environment = {**os.environ, **services(), "PEERS_RESTATE_SERVER": str(RESTATE)}
    install("restate" in options.peers)
    found: dict[str, Any] = {name: peer(name, options.executions, environment) for name in options.peers}
    found["edow"] = edow(environment, [])
    if "EDOW_POSTGRES" in environment and "EDOW_REDIS" in environment:
        servers = ["--store", environment["EDOW_POSTGRES"], "--transport", environment["EDOW_REDIS"]]
        found["edow on PostgreSQL and Redis"] = edow(environment, servers)
    sys.stdout.write(json.dumps(found) + "\n" if options.json else table(found))
    return int(any("error" in figures for figures in found.values()))


def services() -> dict[str, str]:
    """The URLs of the servers that are up."""
    said = subprocess.run(
        [ROOT / "scripts" / "services", "status", "--env"], capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in said.stdout.split() if "=" in line)


def install(restate: bool) -> None:
    wanted = (HERE / "requirements.txt").read_text()
    done = HOME / "installed"
    if not done.exists() or done.read_text() != wanted:
        say("installing the peers")
        subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"], check=True)
        done.write_text(wanted)
    if restate and not RESTATE.exists():
        if shutil.which("npm") is None:
            sys.exit("error: Restate's server comes from npm, which was not found; install it, or name the other peers")
        (HOME / "node").mkdir(exist_ok=True)
        subprocess.run(["npm", "install", "--silent", RESTATE_PACKAGE], cwd=HOME / "node", check=True)


def peer(name: str, executions: int, environment: dict[str, str]) -> dict[str, Any]:
    """Its figures; `error` where there are none. Whatever it has started is ended with it."""
    say(f"{name}: {executions} executions")
    words = [str(PYTHON), str(HERE / f"{name}_peer.py"), str(executions), str(IN_FLIGHT)]
    log = HOME / f"{name}.log"
    with log.open("wb") as errors:
        running = subprocess.Popen(
            words, cwd=HERE, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
        try:
            said, _ = running.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            said = ""
        finally:
            try:
                os.killpg(running.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            running.communicate()
    lines = [line for line in said.splitlines() if line.startswith("{")]
    return {"durable": DURABLE[name], **(json.loads(lines[-1]) if lines else {"error": f"see {log}"})}


def edow(environment: dict[str, str], options: list[str]) -> dict[str, Any]:
    say("edow" + (" on PostgreSQL and Redis" if options else ""))
    words = [sys.executable, "-m", "edow", "bench", "steps", "--rounds", "3", "--json", *options]
    measured = json.loads(subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)
    names = ("steps_per_second", "workflows_per_second", "ceiling_steps_per_second")
    return {"durable": True, **{name: measured[name] for name in names}}


def table(found: dict[str, Any]) -> str:
    edow = found["edow"]["steps_per_second"]
    lines = [f"{'':28} {'steps/s':>10} {'durable':>8} {'edow is':>9}"]
    for name, figures in sorted(found.items(), key=lambda item: -item[1].get("steps_per_second", 0)):
        if "error" in figures:
            lines.append(f"{name:28} {figures['error']}")
            continue
        speed, durable = figures["steps_per_second"], "yes" if figures["durable"] else "no"
        lines.append(f"{name:28} {speed:>10,.0f} {durable:>8} {edow / speed:>8.1f}x")
    return "\n".join(lines) + "\n"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
