"""The command line itself: help, usage errors, how errors look."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from edow import __version__
from edow.cli import main
from edow.cli.tree import COMMANDS, exit_code
from edow.errors import NotFound
from tests.cli.conftest import Result

NAMES = (
    *("run", "start", "dev", "orchestrator", "worker"),
    *("list", "show", "signal", "cancel", "terminate", "resume", "dlq"),
    *("replay", "doctor", "bench", "demo", "verify", "version"),
)


def test_help_names_every_command(run):
    """`edow --help` lists all commands, and nothing hidden."""
    result = run("--help")
    assert result.code == 0
    assert all(f" {name} " in result.out for name in NAMES)
    assert " serve " not in result.out


@pytest.mark.parametrize("name", ["run", "start", "list", "show", "worker", "doctor", "replay"])
def test_every_command_takes_a_store(run, name):
    """Each command's help shows --store."""
    assert "--store" in run(name, "--help").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["frobnicate"], "frobnicate"),
        (["show"], "ID"),
        (["list", "--limit", "many"], "--limit"),
        (["list", "--limit", "0"], "--limit"),
        (["list", "--nonsense"], "--nonsense"),
        (["dlq", "frobnicate"], "frobnicate"),
        (["signal", "x"], "SIGNAL"),
        (["run"], "FILE_OR_MODULE:WORKFLOW"),
    ],
)
def test_wrong_usage_is_exit_code_2(run, words, said):
    """A command line that cannot be understood: one error line, a hint, code 2, nothing on stdout."""
    result = run(*words)
    assert (result.code, result.out) == (2, "")
    error, hint = result.err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: see `edow")


def test_a_timeout_that_says_nothing_is_explained(capsys):
    """asyncio's own has no message; people get a sentence and a hint."""
    assert exit_code(TimeoutError()) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: it took too long")
    assert hint.startswith("hint: ")


def test_version(run):
    """The version, for people and for scripts."""
    assert run("version").out == f"edow {__version__}\n"
    assert f'"edow":"{__version__}"' in run("version", "--json").out


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["--version", "list", "--nonsense"]])
def test_version_as_an_option(run, words):
    """What other commands are asked for it, wherever it leads."""
    assert run(*words) == Result(0, f"edow {__version__}\n", "")


def test_an_error_says_what_and_what_to_do(capsys):
    """Our messages become an error line and a hint line."""
    assert exit_code(NotFound("there is no execution 'x'; `edow list` shows what there is")) == 1
    assert capsys.readouterr().err == "error: there is no execution 'x'\nhint: `edow list` shows what there is\n"


def test_a_bug_is_not_a_traceback(capsys):
    """What nobody expected is one line, too, and tells how to report it."""
    assert exit_code(ZeroDivisionError("division by zero")) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error == "error: internal error: ZeroDivisionError: division by zero"
    assert "--debug" in hint


@pytest.mark.parametrize("problem", [KeyboardInterrupt(), typer.Abort()])
def test_interrupted_is_exit_code_130(problem):
    """Ctrl-C has the exit code that shells know."""
    assert exit_code(problem) == 130


def test_debug_shows_the_traceback(run, monkeypatch):
    """With --debug, wherever it stands, the error is raised as it is."""
    with pytest.raises(NotFound):
        main(["list", "--debug"])
    monkeypatch.setenv("EDOW_DEBUG", "1")
    with pytest.raises(NotFound):
        main(["list"])


def test_colour_is_off_when_nobody_looks(run):
    """Nothing that goes into a pipe has escape sequences."""
    result = run("list")
    assert "\x1b" not in result.err + result.out


@pytest.mark.parametrize("name", ["bench", "demo", "verify"])
def test_delegates_hand_on_their_words_and_code(run, monkeypatch, name):
    """bench, demo and verify get their own options untouched, --help included, and decide the exit code."""
    seen: list[list[str]] = []
    package = type(sys)("fake")
    package.main = lambda argv: (seen.append(list(argv)), 3)[1]
    monkeypatch.setitem(sys.modules, f"edow.{name}", package)
    assert run(name, "steps", "--json", "--help", "--seed", "7").code == 3
    assert seen == [["steps", "--json", "--help", "--seed", "7"]]


def test_the_module_is_the_command():
    """`python -m edow` is `edow`, and a reader that goes away early is no error of ours."""
    command = [sys.executable, "-m", "edow", "version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"edow {__version__}\n", "")


def loaded(*words: str) -> set[str]:
    """The modules of a process that ran this command line."""
    program = "import sys\nfrom edow.cli import main\nmain(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [["--help"], ["version"]])
def test_help_loads_no_command(words):
    """Help of all commands, and the version, need none of them: no client, no store, no broker, no server, no loop."""
    found = loaded(*words)
    ours = {name for name in found if name.startswith("edow.")}
    parts = {"edow.cli", "edow.errors", "edow.model", "edow.workflow"}
    assert {".".join(name.split(".")[:2]) for name in ours} == parts
    modules = {name.removeprefix("edow.cli.") for name in ours if name.startswith("edow.cli.")}
    assert modules == {"about", "delegates", "failure", "later", "options", "tree"}
    assert not found & {"asyncio", "asyncpg", "litestar", "redis", "sqlite3", "ssl", "uvicorn"}


@pytest.mark.parametrize("words", [["list", "--help"], ["dlq", "--help"], ["hook", "create", "--help"]])
def test_help_of_a_command_loads_no_other(words):
    """It loads the client at most: neither orchestrator nor worker, neither database nor server."""
    found = loaded(*words)
    assert not found & {"edow.app", "edow.orchestrator", "edow.worker", "edow.engine", "edow.sqlite", "edow.postgresql"}
    assert not found & {"edow.api", "edow.bench", "edow.cli.api", "edow.cli.slos", "asyncpg", "litestar", "uvicorn"}


@pytest.mark.parametrize("listed", COMMANDS, ids=lambda each: each.name)
def test_a_command_is_listed_with_its_own_words(listed):
    """What is said of a command before it is imported is how its own help begins."""
    assert listed.load().help.split("\n\n")[0] == listed.summary


def test_main_is_the_script():
    """The console script's function answers the exit code."""
    assert main(["version"]) == 0
