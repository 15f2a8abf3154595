"""The command `scripts/services`: what it understands, and what it says."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from . import services
from .box import Box
from .terminal import Terminal
from .trouble import Trouble, tail

_EPILOGUE = """\
Without a NAME it is about all of them. Data, logs and programs are in .services (or $EDOW_SERVICES).

  scripts/services up redis postgres
  set -a; eval "$(scripts/services status --env)"; set +a
"""


def main(arguments: Sequence[str]) -> int:
    """Do what was asked; 0 if all of it worked."""
    asked = _parser().parse_args(arguments)
    names = list(dict.fromkeys(asked.names)) or list(services.SERVERS)
    if unknown := [name for name in names if name not in services.SERVERS]:
        known = ", ".join(services.SERVERS)
        print(f"scripts/services: there is no server {unknown[0]!r}; there are: {known}", file=sys.stderr)
        return 2
    try:
        return int(asked.run(names, asked))
    except KeyboardInterrupt:
        return 130


def up(names: list[str], asked: argparse.Namespace) -> int:
    """Install and start them, all at once."""
    services.sweep()
    return _each(names, Terminal(), _up)


def down(names: list[str], asked: argparse.Namespace) -> int:
    """Stop them gracefully; what their tests left behind too."""
    terminal = Terminal()
    result = _each(names, terminal, _delete if asked.delete else _down)
    if count := services.sweep():
        terminal.line(f"  Ended {count} private server(s) whose tests had died.")
    return result


def restart(names: list[str], asked: argparse.Namespace) -> int:
    return _each(names, Terminal(), _restart)


def status(names: list[str], asked: argparse.Namespace) -> int:
    """What is up; with --env or --json as data."""
    boxes = [services.box(name) for name in names]
    with ThreadPoolExecutor(len(boxes)) as pool:
        answers = list(pool.map(lambda box: box.ready(), boxes))
    if asked.env:
        for box in (box for box, ready in zip(boxes, answers, strict=True) if ready):
            print(f"{box.server.VARIABLE}={_quoted(box.url)}")
    elif asked.json:
        told = {box.server.NAME: _told(box, ready) for box, ready in zip(boxes, answers, strict=True)}
        print(json.dumps(told, indent=2))
    else:
        terminal = Terminal()
        for box, ready in zip(boxes, answers, strict=True):
            _show(terminal, box, ready)
    return 0


def log(names: list[str], asked: argparse.Namespace) -> int:
    """The end of their logs."""
    terminal = Terminal()
    for name in names:
        box = services.box(name)
        terminal.line(terminal.paint("bold", f"{name}: {box.log}"))
        for text in tail(box.log, asked.lines):
            terminal.line(f"  {text}")
    return 0


def _each(names: list[str], terminal: Terminal, act: Callable[[Terminal, Box], None]) -> int:
    """Do it to every server at the same time; one that fails leaves the others alone."""

    def one(name: str) -> bool:
        box = services.box(name, say=lambda text: terminal.doing(name, text))
        try:
            act(terminal, box)
        except Trouble as trouble:
            terminal.doing(name, None)
            terminal.trouble(name, trouble)
            return False
        finally:
            terminal.doing(name, None)
        return True

    with ThreadPoolExecutor(len(names)) as pool:
        return 0 if all(list(pool.map(one, names))) else 1


def _up(terminal: Terminal, box: Box) -> None:
    began = time.monotonic()
    news = box.start()
    aside = f"{time.monotonic() - began:.1f} s" if news else "was up"
    terminal.outcome("✓", "green", box.server.NAME, _where(box), aside)


def _restart(terminal: Terminal, box: Box) -> None:
    box.say("stopping")
    box.stop()
    _up(terminal, box)


def _down(terminal: Terminal, box: Box) -> None:
    box.say("stopping")
    terminal.outcome("·", "dim", box.server.NAME, "stopped" if box.stop() else "was not up")


def _delete(terminal: Terminal, box: Box) -> None:
    box.say("stopping")
    box.delete()
    terminal.outcome("·", "dim", box.server.NAME, "stopped, its data deleted")


def _show(terminal: Terminal, box: Box, ready: bool) -> None:
    if ready:
        terminal.outcome("✓", "green", box.server.NAME, _where(box), box.server.VARIABLE)
    elif box.running():
        terminal.outcome("!", "yellow", box.server.NAME, "runs, but does not answer", str(box.log))
    else:
        terminal.outcome("·", "dim", box.server.NAME, "not up", f"scripts/services up {box.server.NAME}")


def _where(box: Box) -> str:
    return f"{box.server.TITLE} on port {box.port}".ljust(40)


def _told(box: Box, ready: bool) -> dict[str, object]:
    return {"up": ready, "variable": box.server.VARIABLE, "url": box.url if ready else None, "log": str(box.log)}


def _quoted(url: str) -> str:
    """As a shell takes it: bare where that is safe (`?` is, in an assignment), else in quotes."""
    return url if shlex.quote(url.replace("?", "")) == url.replace("?", "") else shlex.quote(url)


def _parser() -> argparse.ArgumentParser:
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="scripts/services",
        description=f"The real servers that EDOW is tested on: {', '.join(services.SERVERS)}.",
        epilog=_EPILOGUE,
        formatter_class=kind,
    )
    verbs = parser.add_subparsers(required=True, metavar="up|down|restart|status|log")
    told = {up: "install and start", down: "stop", restart: "stop and start", status: "what is up", log: "end of logs"}
    made = {}
    for verb, text in told.items():
        made[verb] = verbs.add_parser(verb.__name__, help=text, description=text)
        made[verb].add_argument("names", nargs="*", metavar="NAME")
        made[verb].set_defaults(run=verb)
    made[down].add_argument("--delete", action="store_true", help="delete their data, too")
    made[log].add_argument("--lines", type=int, default=100, metavar="N", help="how many lines of each (100)")
    form = made[status].add_mutually_exclusive_group()
    form.add_argument("--env", action="store_true", help="VARIABLE=URL for each that is up, for a shell")
    form.add_argument("--json", action="store_true", help="all of it as JSON")
    return parser
