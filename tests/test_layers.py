"""The architecture as a test: who may import whom, how long things may grow, what an import costs.

The source is read with `ast` and never executed, so that imports inside functions and under
`if TYPE_CHECKING` count as well. To add a package, give it a line in TABLE.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "edow"

# --- The table -----------------------------------------------------------------------------------

CLOCK_AND_IO = (
    frozenset({"sqlite3", "subprocess", "time"})
    | frozenset({"http", "select", "selectors", "socket", "ssl", "urllib"})
    | frozenset({"multiprocessing", "shutil", "tempfile"})
)
RANDOMNESS = frozenset({"random", "secrets"})

VOCABULARY = frozenset({"errors", "model"})
PURE = frozenset({"workflow", "engine", "kpi"})
EDGES = frozenset({"store", "transport", "payload", "telemetry", "background"})
LOOPS = frozenset({"orchestrator", "worker", "trigger", "monitor"})
FACES = frozenset({"api", "console", "cli", "client", "testing", "__main__"}) | frozenset(
    {"app", "bench", "demo", "metrics", "verify"}  # `app` is the composition root: nothing below imports it
)
PUBLIC = "edow"  # edow/__init__.py, the public namespace


@dataclass(frozen=True)
class Rule:
    """What one package or module directly under src/edow may import, itself always included."""

    edow: frozenset[str]
    never: frozenset[str] = frozenset()  # modules of the standard library
    lazily: frozenset[str] = frozenset()  # also these, in functions and under TYPE_CHECKING


TABLE = {
    # layer 0: vocabulary
    "errors": Rule(frozenset(), never=CLOCK_AND_IO | RANDOMNESS),
    "model": Rule(frozenset({"errors"}), never=CLOCK_AND_IO | RANDOMNESS),
    # layer 1: pure
    "workflow": Rule(VOCABULARY, never=CLOCK_AND_IO | {"secrets"}),  # `random` there is seeded
    "engine": Rule(VOCABULARY | {"workflow"}, never=CLOCK_AND_IO | RANDOMNESS),
    "kpi": Rule(VOCABULARY, never=CLOCK_AND_IO | RANDOMNESS),
    # layer 2: edges; `sqlite` and `postgresql` are what each database's two drivers share, and theirs alone
    "address": Rule(VOCABULARY),
    "sql": Rule(frozenset()),
    "sqlite": Rule(VOCABULARY | {"sql"}),
    "postgresql": Rule(VOCABULARY | {"address", "sql"}),
    "store": Rule(VOCABULARY | {"address", "sql", "sqlite", "postgresql"}),
    "transport": Rule(VOCABULARY | {"address", "sql", "sqlite", "postgresql"}),
    "payload": Rule(VOCABULARY),
    "telemetry": Rule(VOCABULARY),
    "background": Rule(VOCABULARY),
    # layer 3: loops; a worker is stateless, and this is where that is visible
    "orchestrator": Rule(VOCABULARY | PURE | EDGES),
    "worker": Rule((VOCABULARY | PURE | EDGES) - {"store", "engine"}),
    "trigger": Rule(VOCABULARY | PURE | EDGES),
    "monitor": Rule(VOCABULARY | PURE | EDGES),
    # layer 4: faces
    **dict.fromkeys(FACES, Rule(VOCABULARY | PURE | EDGES | LOOPS | FACES | {"address", PUBLIC})),
    # A user's own outbox and a run's own schema are PostgreSQL's, whatever keeps the executions.
    **dict.fromkeys(
        ("client", "testing"),
        Rule(VOCABULARY | PURE | EDGES | LOOPS | FACES | {"address", PUBLIC}, lazily=frozenset({"postgresql"})),
    ),
    "app": Rule(
        VOCABULARY | PURE | EDGES | LOOPS | FACES | {"address", "sqlite", "postgresql"}
    ),  # composes the drivers
    # above all of them
    PUBLIC: Rule(VOCABULARY | PURE, lazily=EDGES | LOOPS | FACES),
}

FUNCTION_LINES = 60  # without its docstring
MODULE_LINES = 500

THIRD_PARTY_OF_IMPORT_EDOW = frozenset({"msgspec", "typing_extensions"})  # the latter by msgspec, where it is

# --- Reading the source --------------------------------------------------------------------------

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
TYPE_CHECKING_TESTS = ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@dataclass(frozen=True)
class Import:
    """One imported module, as far as a name in the source tells."""

    module: str
    line: int
    in_function: bool = False
    for_types: bool = False


@dataclass(frozen=True)
class Module:
    """One parsed source file."""

    name: str
    is_package: bool
    text: str
    tree: ast.Module

    @property
    def unit(self) -> str:
        """The line of TABLE it comes under."""
        return unit_of(self.name)


def unit_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PUBLIC


def parse(name: str, text: str, *, is_package: bool = False) -> Module:
    return Module(name, is_package, text, ast.parse(text, filename=name))


def read(root: Path) -> dict[str, Module]:
    modules = {}
    for path in sorted(root.rglob("*.py")):
        parts = (PUBLIC, *path.relative_to(root).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = parse(name, path.read_text("utf-8"), is_package=is_package)
    return modules


def imports(module: Module, known: frozenset[str]) -> Iterator[Import]:
    """Every import in the file; `known` tells a submodule from a name inside a module."""

    def visit(node: ast.AST, in_function: bool, for_types: bool) -> Iterator[Import]:
        for target in targets(module, node, known):
            yield Import(target, node.lineno, in_function, for_types)
        in_function = in_function or isinstance(node, FUNCTIONS)
        if isinstance(node, ast.If) and dotted(node.test) in TYPE_CHECKING_TESTS:
            for child in node.body:
                yield from visit(child, in_function, True)
            for child in node.orelse:
                yield from visit(child, in_function, for_types)
        else:
            for child in ast.iter_child_nodes(node):
                yield from visit(child, in_function, for_types)

    yield from visit(module.tree, False, False)


def targets(module: Module, node: ast.AST, known: frozenset[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=source, names=names, level=level):
            base = absolute(module, source, level)
            for alias in names:
                inner = f"{base}.{alias.name}"
                is_module = inner in known or (base == PUBLIC and alias.name in TABLE)
                yield inner if is_module else base
        case ast.Call(func=function, args=[ast.Constant(value=str(name)), *_]):
            if dotted(function) in ("importlib.import_module", "import_module", "__import__"):
                yield name


def dotted(node: ast.expr) -> str:
    """`name` or `name.of.name`; nothing for any other expression, which would take long to write out."""
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def absolute(module: Module, source: str | None, level: int) -> str:
    if level == 0:
        return source or ""
    parts = module.name.split(".")
    package = parts[: len(parts) - level + module.is_package]
    return ".".join([*package, source] if source else package)


# --- Judging it ----------------------------------------------------------------------------------


def layer_violations(modules: dict[str, Module]) -> Iterator[str]:
    known = frozenset(modules)
    unknown = sorted({module.unit for module in modules.values()} - TABLE.keys())
    for unit in unknown:
        yield f"edow.{unit} has no layer: give it a line in TABLE of tests/test_layers.py"
    for module in modules.values():
        if module.unit in TABLE:
            for found in imports(module, known):
                if reason := refusal(module.unit, found):
                    yield f"{module.name}:{found.line} imports {found.module}: {reason}"


def refusal(unit: str, found: Import) -> str | None:
    rule = TABLE[unit]
    top = found.module.split(".")[0]
    if top != PUBLIC:
        return f"{unit} has no clock, I/O or chance of its own" if top in rule.never else None
    target = unit_of(found.module)
    if target == unit or target in rule.edow:
        return None
    if target in rule.lazily:
        if found.in_function or found.for_types:
            return None
        return f"{unit} may do so only inside a function or under TYPE_CHECKING"
    if target == PUBLIC:
        return "import from the module that defines it; the public namespace is for users"
    allowed = ", ".join(sorted(rule.edow)) or "nothing of edow"
    return f"{unit} may import {allowed}"


def cycle(modules: dict[str, Module]) -> list[str] | None:
    """The first cycle among imports made at run time, those inside functions included.

    The lazy half of the public namespace is left out: it exists to be looked up later.
    """
    known = frozenset(modules)
    graph = {
        name: {
            found.module
            for found in imports(module, known)
            if found.module in known and not found.for_types and not (module.unit == PUBLIC and found.in_function)
        }
        for name, module in modules.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))  # told as importer first
    return None


def long_functions(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = span(node)
            if ast.get_docstring(node, clean=False) is not None:
                lines -= span(node.body[0])
            if lines > FUNCTION_LINES:
                yield f"{module.name}:{node.lineno} {node.name} has {lines} lines"


def span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def report(violations: Iterator[str]) -> str:
    return "\n".join(violations)


# --- The project itself --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    return read(SOURCE)


def test_imports_go_down_the_table_only(modules):
    """Every import in src/edow is one its layer may make, and every package has a layer."""
    found = report(layer_violations(modules))
    assert not found, f"\n{found}"


def test_there_is_no_import_cycle(modules):
    """No module needs, by any path, a module that needs it."""
    found = cycle(modules)
    assert found is None, " -> ".join(found)


def test_functions_stay_short(modules):
    """A function fits on a screen, its docstring aside."""
    found = report(line for module in modules.values() for line in long_functions(module))
    assert not found, f"more than {FUNCTION_LINES} lines:\n{found}"


def test_modules_stay_short(modules):
    """A module holds one idea."""
    lengths = {name: len(module.text.splitlines()) for name, module in modules.items()}
    found = report(f"{name} has {n} lines" for name, n in lengths.items() if n > MODULE_LINES)
    assert not found, f"more than {MODULE_LINES} lines:\n{found}"


def test_every_module_says_where_it_stands(modules):
    """Each module opens with a docstring."""
    found = report(name for name, module in modules.items() if not ast.get_docstring(module.tree))
    assert not found, f"without a docstring:\n{found}"


def test_import_edow_needs_msgspec_alone():
    """A fresh interpreter that imports edow loads no other third-party module."""
    program = (
        "import sys; before = set(sys.modules); import edow\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    loaded = {name for name in run.stdout.split() if not name.startswith("_sysconfigdata")}
    third_party = loaded - sys.stdlib_module_names - {PUBLIC}
    assert third_party <= THIRD_PARTY_OF_IMPORT_EDOW, sorted(third_party)
    assert "asyncio" not in loaded  # a third of the time, and needed only by who runs a loop


# --- The test itself -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("importer", "source"),
    [
        ("edow.model.execution", "from edow.errors import Bug"),
        ("edow.model.execution", "from .ids import Id"),
        ("edow.engine.decide", "from edow.workflow import task\nimport asyncio"),
        ("edow.workflow.sources", "import random"),
        ("edow.store.sqlite", "import sqlite3\nfrom edow import sqlite"),
        ("edow.worker.loop", "from edow.transport import Transport"),
        ("edow.cli.main", "import edow\nfrom edow.app import App"),
        ("edow", "from edow.workflow import task\ndef f(): from edow.app import App"),
        ("edow", "from typing import TYPE_CHECKING\nif TYPE_CHECKING: from edow.app import App"),
    ],
)
def test_what_goes_down_is_allowed(importer, source):
    """Imports that follow the table pass."""
    assert not report(layer_violations({importer: parse(importer, source)}))


@pytest.mark.parametrize(
    ("importer", "source", "reason"),
    [
        ("edow.errors", "import edow.model", "errors may import nothing of edow"),
        ("edow.model.ids", "import time", "no clock"),
        ("edow.model.ids", "from ..engine import decide", "model may import errors"),
        ("edow.workflow.task", "def f():\n from edow import engine", "workflow may import"),
        ("edow.engine.decide", "from urllib.request import urlopen", "no clock"),
        ("edow.engine.decide", "import random", "no clock, I/O or chance"),
        ("edow.store.sqlite", "from edow.transport import Transport", "store may import"),
        ("edow.payload.blobs", "from edow.sqlite import Writer", "payload may import"),
        ("edow.transport.redis", "from edow.workflow import task", "transport may import"),
        ("edow.worker.loop", "from edow.store import Store", "worker may import"),
        ("edow.worker.loop", "from edow.engine import decide", "worker may import"),
        ("edow.worker.loop", "from edow import task", "the public namespace is for users"),
        (
            "edow.trigger.cron",
            "import typing\nif typing.TYPE_CHECKING:\n from edow.worker import Worker",
            "trigger may import",
        ),
        ("edow.orchestrator.shard", "import_module('edow.app')", "orchestrator may import"),
        ("edow.cli.main", "from edow.sqlite import Writer", "cli may import"),
        ("edow", "from edow.app import App", "only inside a function"),
        ("edow.helpers", "", "edow.helpers has no layer: give it a line in TABLE"),
    ],
)
def test_what_goes_up_or_sideways_is_refused(importer, source, reason):
    """Imports that break the table are named, with the reason."""
    assert reason in report(layer_violations({importer: parse(importer, source)}))


def test_a_cycle_is_told_importer_first():
    """A cycle is found through a function too, but not through TYPE_CHECKING."""
    first = parse("edow.model.a", "from edow.model import b")
    hidden = parse("edow.model.b", "def f():\n from edow.model.a import x")
    typed = parse("edow.model.b", "if TYPE_CHECKING:\n from edow.model.a import x")

    found = cycle({"edow.model.a": first, "edow.model.b": hidden})
    assert found in (
        ["edow.model.a", "edow.model.b", "edow.model.a"],
        ["edow.model.b", "edow.model.a", "edow.model.b"],
    )
    assert cycle({"edow.model.a": first, "edow.model.b": typed}) is None


def test_a_docstring_does_not_make_a_function_long():
    """Lines are counted without the docstring."""
    body = "    x = 1\n" * (FUNCTION_LINES - 1)
    explained = f'def f():\n    """One.\n\n    Two.\n    """\n{body}'

    assert not report(long_functions(parse("edow.model.a", explained)))
    assert "f has 61 lines" in report(long_functions(parse("edow.model.a", explained + body[:10])))
