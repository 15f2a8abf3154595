"""The reference's tables are those of the code: commands, limits, states and the wire."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shlex
from collections.abc import Callable, Iterator

import msgspec
import pytest
import typer
from typer.main import get_command

from edow.cli.later import Later
from edow.cli.tree import build
from edow.engine.decision import Decision, Dispatch
from edow.model import wire
from edow.model.execution import TRANSITIONS, Execution, Status
from edow.model.failure import Failure
from edow.model.policy import StepPolicy, Timeouts
from edow.orchestrator.config import OrchestratorConfig
from edow.orchestrator.draft import Draft, Farewell
from edow.transport.contract import Features
from edow.worker.config import WorkerConfig
from edow.worker.reports import Reporter
from edow.workflow.retry import Retry
from tests.docs import markdown
from tests.docs.markdown import PAGES, ROOT
from tests.docs.test_docs import NAMES

REFERENCE = "docs/reference.md"
NEW_YEAR = 1_767_225_600_000_000
EVERYWHERE = {"--help", "-h", "--debug"}
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*\b")

# The command line


def options_of(command: object) -> set[str]:
    """`--name` and `-n` of every option of a command."""
    return {name for each in command.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}  # type: ignore[attr-defined]


def alone(function: Callable[..., object]) -> set[str]:
    """Options of a command that lives in a package of its own."""
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return options_of(get_command(app))


def walk(command: object, path: str = "edow") -> Iterator[tuple[str, set[str]]]:
    for name, inner in getattr(command, "commands", {}).items():
        inner = inner.load() if isinstance(inner, Later) else inner  # noqa: PLW2901  # what it stands for
        if hasattr(inner, "commands"):
            yield from walk(inner, f"{path} {name}")
        elif not inner.hidden:
            yield f"{path} {name}", options_of(inner)


def all_commands() -> dict[str, set[str]]:
    """Every command that help shows, with its options; the delegated ones with those of their packages."""
    from edow.bench.command import bench
    from edow.demo.command import demo
    from edow.verify.command import verify

    found = dict(walk(get_command(build())))
    found |= {"edow bench": alone(bench), "edow demo": alone(demo), "edow verify": alone(verify)}
    return {name: options - EVERYWHERE for name, options in found.items()}


COMMANDS = all_commands()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_reference(command: str) -> None:
    """Its section names exactly the options that it has."""
    assert set(OPTION.findall(markdown.section(REFERENCE, command))) - EVERYWHERE == COMMANDS[command]


def test_the_reference_has_no_other_commands() -> None:
    """Every section about a command is about one that exists."""
    titles = re.findall(r"^### (edow .+)$", markdown.page(REFERENCE), re.MULTILINE)
    assert sorted(titles) == sorted(COMMANDS)


@pytest.mark.parametrize("name", NAMES)
def test_commands_that_are_shown_exist(name: str) -> None:
    """Each `edow ...` in a console block and in the text is a command, with options that it has."""
    typed = [command.line for block in markdown.blocks(name, "console") for command in markdown.commands(block)]
    inline = re.findall(r"`(edow [a-z][^`]*)`", markdown.without_blocks(markdown.page(name)))
    for line in [*typed, *inline]:
        words = shlex.split(line.removesuffix(" &"))
        if words[0] == "edow":
            check_command(words, f"{name}: {line}")


def check_command(words: list[str], where: str) -> None:
    group = any(name.startswith(f"edow {words[1]} ") for name in COMMANDS)
    if group and len(words) == 2:
        return
    command = " ".join(words[:3] if group else words[:2])
    assert command in COMMANDS, where
    used = {word.partition("=")[0] for word in words if re.fullmatch(r"--?[a-z].*", word)}
    assert used - EVERYWHERE <= COMMANDS[command], where


# Limits


def limits() -> list[tuple[str, str]]:
    """(name in the code, default) of every row."""
    found = markdown.rows(markdown.section(REFERENCE, "Limits and defaults"))
    return [(row[2].strip("`"), row[1].strip("`")) for row in found]


def real(name: str) -> object:
    """The value behind a dotted name; of a class, that of an instance; `f(x)` is the default of parameter x."""
    if match := re.fullmatch(r"(.+)\((\w+)\)", name):
        return inspect.signature(found_object(match[1])).parameters[match[2]].default
    owner_name, _, attribute = name.rpartition(".")
    owner = found_object(owner_name)
    return getattr(owner() if isinstance(owner, type) else owner, attribute)


def found_object(name: str) -> Callable[..., object]:
    """Import as much of the dotted name as is a module; the rest are attributes."""
    try:
        return importlib.import_module(name)  # type: ignore[return-value]
    except ModuleNotFoundError:
        owner, _, attribute = name.rpartition(".")
        return getattr(found_object(owner), attribute)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "default"), limits())
def test_a_default_is_the_real_one(name: str, default: str) -> None:
    """The value in the table is the value in the code."""
    cores = os.cpu_count() or 1
    assert real(name) == eval(default, {"__builtins__": {}}, {"cores": cores})


def test_every_limit_is_in_the_table() -> None:
    """No field of a configuration is left out, but the names of processes and what is no limit."""
    listed = {name.rpartition(".")[2] for name, _ in limits()}
    fields = {*WorkerConfig.__struct_fields__, *OrchestratorConfig.__struct_fields__, *Retry.__dataclass_fields__}
    assert fields - listed == {"name", "give_up_on"}


def test_the_drivers_page_names_every_feature() -> None:
    """The table of features is that of the contract."""
    text = markdown.section("docs/drivers.md", "A transport")
    assert [name for name in Features.__struct_fields__ if f"`{name}`" not in text] == []


def test_the_drivers_page_names_every_verb() -> None:
    """Both tables of verbs name what the contracts have."""
    from edow.store.contract import Store
    from edow.transport.contract import Subscriber, Transport

    def verbs(*contracts: type) -> set[str]:
        return {name for contract in contracts for name in vars(contract) if not name.startswith("_")}

    text = markdown.page("docs/drivers.md")
    names = verbs(Store, Transport, Subscriber) - {"features"}
    assert [name for name in sorted(names) if f"`{name}`" not in text and f"`{name}(" not in text] == []


# States


def test_the_diagram_is_the_table_of_transitions() -> None:
    """Every arrow is a legal transition and every legal transition an arrow."""
    [diagram] = markdown.blocks(REFERENCE, "mermaid")
    arrows = set(re.findall(r"^\s*(\S+) --> (\S+)$", diagram.text, re.MULTILINE))
    legal = {(str(source), str(target)) for source, targets in TRANSITIONS.items() for target in targets}
    assert arrows == legal | {("[*]", "running")}


def test_the_table_of_states_is_complete() -> None:
    """A row for each state, in its order."""
    named = [row[0].strip("`") for row in markdown.rows(markdown.section(REFERENCE, "States"))]
    assert named == [str(status) for status in Status]


# The wire


def example(kind: str) -> object:
    """The JSON block marked with this word."""
    [block] = [each for each in markdown.blocks(REFERENCE, "json") if kind in each.words]
    return json.loads(block.text)


def task_body() -> bytes:
    row = Execution(id="order-7", workflow="fulfil", shard=2, correlation="order-7")
    dispatch = Dispatch(
        step="charge",
        task="charge",
        attempt=1,
        args=msgspec.Raw(b'{"order":{"id":"7","cents":4200}}'),
        key=None,
        policy=StepPolicy(timeouts=Timeouts(start_to_close=30.0)),
        scheduled_at=NEW_YEAR,
    )
    return Draft(NEW_YEAR, 4).task_message(row, dispatch).body


class Told:
    """An attempt, as far as a report tells of it."""

    event = wire.decode_task(task_body())
    number = 1
    started_at = NEW_YEAR + 4_000
    duration = 1_250
    result = msgspec.Raw(b'"receipt-7"')


def test_the_task_event_is_what_an_orchestrator_sends() -> None:
    """The example is the real encoder's."""
    assert example("task") == json.loads(task_body())


def test_the_result_event_is_what_a_worker_sends() -> None:
    """The example is the real encoder's."""
    reporter = Reporter("host:77", lambda: NEW_YEAR + 6_000, 1 << 20)
    assert example("result") == json.loads(reporter.completed(Told()).body)  # type: ignore[arg-type]


def test_the_failure_is_what_a_worker_sends() -> None:
    """The example is what a failed attempt's `data` is."""
    reporter = Reporter("host:77", lambda: NEW_YEAR, 1 << 20)
    failure = Failure(type="shop.CardDeclined", message="7", kind="declined", retryable=False)
    event = wire.decode_result(reporter.failed(Told(), failure, final=True).body)
    assert example("failure") == json.loads(bytes(event.data))


def test_the_cancel_event_is_what_an_orchestrator_sends() -> None:
    """The example is the real encoder's."""
    draft = Draft(NEW_YEAR, 4)
    last = Decision()
    last.cancels.append("charge")
    draft.abandon([Farewell(Execution(id="order-7", workflow="fulfil", shard=2), last)])
    draft.finish()
    assert example("cancel") == json.loads(draft.messages[0].body)


def test_the_wire_table_names_every_attribute() -> None:
    """No attribute of an event is missing from its section."""
    text = markdown.section(REFERENCE, "Wire format")
    names = {*wire.TaskEvent.__struct_fields__, *wire.ResultEvent.__struct_fields__}
    assert [name for name in sorted(names) if f"`{name}`" not in text and f'"{name}"' not in text] == []


def test_the_pages_are_these() -> None:
    """The documentation is these pages."""
    assert {path.name for path in PAGES if path.parent == ROOT / "docs"} == {
        "design.md",
        "drivers.md",
        "failures.md",
        "metrics.md",
        "glossary.md",
        "how-to.md",
        "matrix.md",
        "performance.md",
        "reference.md",
        "tutorial.md",
    }
