"""The parent process of `edow dev`: watches .py files and starts the child again when one has changed.

Files are compared by their times twice a second; no library, no operating system feature is needed for that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from edow.cli.failure import note

EVERY_SECONDS = 0.5
GRACE_SECONDS = 10.0  # more than the child needs: one that is killed leaves without a word, and counts as lost
MAX_FILES = 5000
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})

CHILD = "EDOW_DEV_CHILD"  # in the child's environment: end when standard input does

Times = dict[str, int]


def keep_running(command: Sequence[str], modules: Sequence[str]) -> None:
    """Run `edow COMMAND` until Ctrl-C, again after every change; a child that ended waits for the next change."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the child is stopped, too
    folders = _folders(modules)
    note(f"edow dev: watching {', '.join(map(str, folders))}")
    before = times(folders)
    child = _start(command)
    try:
        while True:
            time.sleep(EVERY_SECONDS)
            now = times(folders)
            if now != before:
                note(f"edow dev: {_changed(before, now)} changed, starting again")
                _stop(child)
                child, before = _start(command), now
    finally:
        _stop(child)


def times(folders: Iterable[Path]) -> Times:
    """When each .py file below the folders was last changed."""
    found: Times = {}
    for folder in folders:
        for path in _python_files(folder):
            try:
                found[path] = os.stat(path).st_mtime_ns
            except OSError:
                continue  # gone since it was listed
            if len(found) >= MAX_FILES:
                return found
    return found


def _python_files(folder: Path) -> Iterator[str]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in SKIPPED]
        yield from (os.path.join(root, name) for name in names if name.endswith(".py"))


def _folders(modules: Sequence[str]) -> list[Path]:
    """The current directory, and those of files elsewhere."""
    here = Path.cwd()
    given = {Path(each).absolute().parent for each in modules if each.endswith(".py")}
    return [here, *sorted(folder for folder in given if not folder.is_relative_to(here))]


def _changed(before: Times, now: Times) -> str:
    names = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
    return os.path.relpath(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    # A session of its own: Ctrl-C is for the parent, which then stops the child gracefully, once. The pipe tells the
    # child when the parent is gone without having been able to do so.
    environment = os.environ | {CHILD: "1"}
    line = [sys.executable, "-m", "edow", *command]
    return subprocess.Popen(line, start_new_session=True, stdin=subprocess.PIPE, env=environment)


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        _end(child)
    if child.stdin is not None:
        child.stdin.close()


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        note(f"edow dev: killed what did not stop within {GRACE_SECONDS:g} s")
        child.kill()
        child.wait()
