"""Runs the `edow` command as people do: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from tests.servers import server_url


def edow_command(*arguments: str, timeout: float = 55.0) -> subprocess.CompletedProcess[str]:
    """Its exit code and what it wrote."""
    return subprocess.run(
        [sys.executable, "-m", "edow", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**os.environ, "COLUMNS": "300"},
    )


def place_of(server: str) -> list[str]:
    """Options for a run on that server; the test is skipped where it is not up. PostgreSQL is the store as well."""
    return ["--store" if server == "POSTGRES" else "--transport", server_url(f"EDOW_{server}")]


def processes_of(line: str) -> list[int]:
    """The process ids in a line such as `started worker 1 (pid 77)`."""
    return [int(found) for found in re.findall(r"pid (\d+)", line)]
