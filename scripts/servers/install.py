"""Getting programs: what is on the machine already, else Debian's packages, PyPI, Maven Central or Go modules.

What is not Debian's goes to a folder named for the exact versions asked for, so a changed version is
installed anew and an unchanged one costs nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, run

from .locking import locked
from .trouble import Trouble

HERE = Path(__file__).parent
_APT_LOCK_SECONDS = 300
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_MARK = "# Written by EDOW's scripts/services while it installs packages."


@dataclass
class Tools:
    """Where programs are installed, with one log for all of it."""

    folder: Path

    def program(self, name: str, package: str, *, also_in: Sequence[str] = ()) -> Path:
        """A program of the machine, installed from a Debian package if it is not there."""
        found = _find(name, also_in)
        if found is None:
            self._debian(name, package)
            found = _find(name, also_in)
        if found is None:
            raise Trouble(f"Debian's package {package} is installed, but has no {name}")
        return found

    def python(self, name: str) -> Path:
        """The folder of programs of a virtual environment of its own, made from NAME.txt beside this file."""
        wanted = HERE / "pins" / f"{name}.txt"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"

        def install(place: Path) -> None:
            self._run([sys.executable, "-m", "venv", place], name)
            self._run([place / "bin" / "pip", "install", "--quiet", "--requirement", wanted], name)

        return self.once(name, [wanted], install, extra=version) / "bin"

    def jars(self, name: str) -> Path:
        """A folder with the jars that NAME.xml beside this file asks for, and all they need."""
        wanted = HERE / "pins" / f"{name}.xml"

        def install(place: Path) -> None:
            maven = self.program("mvn", "maven")
            copy = ["dependency:copy-dependencies", f"-DoutputDirectory={place}", "-DincludeScope=runtime"]
            self._run([maven, "--batch-mode", "--file", wanted, *copy], name)

        return self.once(name, [wanted], install)

    def java(self) -> Path:
        return self.program("java", "default-jre-headless")

    def go(self, source: Path) -> Path:
        """The program built from a folder of Go."""
        name = source.name
        wanted = [*sorted(source.glob("*.go")), source / "go.mod", source / "go.sum"]

        def install(place: Path) -> None:
            compiler = _find("go", ["/usr/local/go/bin"])
            if compiler is None or not _is_recent(compiler, source / "go.mod"):  # Debian 12 has one too old
                compiler = self.python("go") / "go"
            self._run([compiler, "build", "-o", place / name, "."], name, cwd=source)

        return self.once(name, wanted, install) / name

    def once(self, name: str, wanted: Sequence[Path], install: Callable[[Path], None], extra: str = "") -> Path:
        """The folder holding exactly this version, made if there is none; a half-made one is never seen."""
        content = b"".join(file.read_bytes() for file in wanted) + extra.encode()
        place = self.folder / f"{name}-{sha256(content).hexdigest()[:10]}"
        done = place / ".done"
        with locked(self.folder / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)
                place.mkdir(parents=True)
                install(place)
                done.touch()
        return place

    def _debian(self, name: str, package: str) -> None:
        manual = f"sudo apt-get install {package}"
        if shutil.which("apt-get") is None:
            remedy = f"install it by hand so that {name} is on the PATH, or use compose.yaml."
            raise Trouble(f"{name} is not installed, and this is no Debian", remedy=remedy)
        if os.geteuid() != 0:
            raise Trouble(f"{name} is not installed, and only root can do that", remedy=f"`{manual}`, then again.")
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "--yes", "--quiet", "-o", f"DPkg::Lock::Timeout={_APT_LOCK_SECONDS}"]
        with locked(Path("/var/lock/edow-install.lock")):
            if _find(name, ()) is not None:
                return
            with _no_services():
                recent = [*apt, "install", "--no-install-recommends", package]
                if not self._tried(recent, package, environment):
                    self._run([*apt, "update"], package, environment)
                    self._run(recent, package, environment)

    def _tried(self, arguments: Sequence[str | Path], name: str, environment: Mapping[str, str]) -> bool:
        try:
            self._run(arguments, name, environment)
        except Trouble:
            return False
        return True

    def _run(
        self,
        arguments: Sequence[str | Path],
        name: str,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        command = [str(argument) for argument in arguments]
        with log.open("wb") as output:
            output.write((" ".join(command) + "\n").encode())
            output.flush()
            result = run(
                command,
                cwd=cwd,
                env=os.environ | (environment or {}),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                check=False,
            )
        if result.returncode != 0:
            raise Trouble(
                f"{name} could not be installed: {Path(command[0]).name} ended with {result.returncode}",
                log=log,
                remedy="see that this machine reaches its package sources, then again.",
            )


@contextmanager
def _no_services() -> Iterator[None]:
    """While packages are installed, Debian starts none of their services: ours have folders and ports of their own.

    The policy binds only while this process lives, so that one which is killed here does no lasting harm.
    """
    mine = not _POLICY.exists() or _POLICY_MARK in _POLICY.read_text()
    if mine:
        _POLICY.write_text(f"#!/bin/sh\n{_POLICY_MARK}\nkill -0 {os.getpid()} 2>/dev/null && exit 101\nexit 0\n")
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if mine:
            _POLICY.unlink(missing_ok=True)


def _is_recent(compiler: Path, module: Path) -> bool:
    """Whether this Go is as new as the module asks for, by itself."""
    asked = [str(compiler), "env", "GOVERSION"]
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    told = run(asked, cwd="/", env=environment, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, check=False).stdout.decode()
    wanted = next(line for line in module.read_text().splitlines() if line.startswith("go "))
    return _numbers(told) >= _numbers(wanted)


def _numbers(version: str) -> list[int]:
    """Of `go1.26.1` and the like the first two."""
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def _find(name: str, also_in: Sequence[str]) -> Path | None:
    """Where the program is; a pattern in `also_in` may match several versions, of which the newest is taken."""
    places = [str(place) for pattern in also_in for place in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", os.defpath), "/usr/sbin"]))
    return Path(found) if found else None
