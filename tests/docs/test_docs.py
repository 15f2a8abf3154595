"""The documentation is true: its examples run, its commands answer as shown, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import edow
from tests.docs import markdown
from tests.docs.console import Console
from tests.docs.markdown import PAGES, ROOT, Block

NAMES = [str(path.relative_to(ROOT)) for path in PAGES]
PYTHON = [block for name in NAMES for block in markdown.blocks(name, "python")]
MODULES = [block for block in PYTHON if block.file not in (None, "backup.py")]
"""Blocks with a file name; the backup is a script, which the how-to's console runs."""


def write_files(name: str, place: Path) -> None:
    for block in markdown.blocks(name, "python"):
        if block.file is not None:
            (place / block.file).write_text(block.text)


async def type_all(blocks: list[Block], place: Path) -> int:
    """Type the commands and compare what is shown; how many were compared."""
    compared = 0
    with Console(place) as console:
        for command in [command for block in blocks for command in markdown.commands(block)]:
            answer = await console.type(command)
            if command.shown:
                compared += 1
                shown = "\n".join(command.shown)
                assert markdown.shows(shown, answer), f"{command.where}\n--- shown:\n{shown}\n--- answered:\n{answer}"
    return compared


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, importable; modules loaded from it are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


# What is typed


@pytest.mark.timeout(180)  # some thirty processes, one after the other
async def test_the_tutorial_answers_as_shown(place: Path) -> None:
    """Every command of the tutorial is typed in order, the kill -9 included, and shows what the page shows."""
    write_files("docs/tutorial.md", place)
    consoles = markdown.blocks("docs/tutorial.md", "console")
    assert await type_all(consoles, place) >= 9
    assert any("kill -9" in block.text for block in consoles)


@pytest.mark.timeout(180)
async def test_the_how_to_guides_answer_as_shown(place: Path) -> None:
    """Commands marked `run` are typed in order and show what the page shows."""
    write_files("docs/how-to.md", place)
    consoles = [block for block in markdown.blocks("docs/how-to.md", "console") if "run" in block.words]
    assert await type_all(consoles, place) >= 14


async def test_the_how_to_tests_pass(place: Path) -> None:
    """The page's example of tests holds tests that pass."""
    write_files("docs/how-to.md", place)
    module = load(place / "test_refunds.py")
    await module.test_the_function()
    await module.test_the_execution(place)


async def test_the_readme_runs(place: Path) -> None:
    """What README shows of `edow run` is what it answers."""
    shutil.copytree(ROOT / "examples", place / "examples")
    blocks = [block for block in markdown.blocks("README.md", "console") if "edow run" in block.text]
    assert await type_all(blocks, place) == 1


def test_the_readme_shows_the_example() -> None:
    """README's thirty lines are examples/shop.py without its docstrings and blank differences."""
    shown = next(block for block in markdown.blocks("README.md", "python") if "@edow.workflow" in block.text)
    assert essence(shown.text) == essence((ROOT / "examples" / "shop.py").read_text())


def essence(source: str) -> str:
    """The code, without docstrings, comments and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [each for each in body if not (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)


# What is written


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_compiles(block: Block) -> None:
    """Every python block is Python; fragments may await at their top level."""
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


@pytest.mark.parametrize("block", MODULES, ids=str)
def test_python_files_import(block: Block, place: Path) -> None:
    """Every python block with a file name is a module that imports with nothing but its fellows."""
    write_files(block.page, place)
    assert block.file is not None
    assert load(place / block.file).__name__ == Path(block.file).stem


@pytest.mark.parametrize("name", NAMES)
def test_edow_names_exist(name: str) -> None:
    """Whatever a page calls `edow.x` in Python is exported."""
    for block in markdown.blocks(name, "python"):
        for node in ast.walk(_parsed(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edow":
                assert node.attr in edow.__all__, f"{block}: edow.{node.attr}"


def _parsed(block: Block) -> ast.AST:
    tree: ast.AST = compile(block.text, str(block), "exec", flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return tree


@pytest.mark.parametrize("name", NAMES)
def test_links_resolve(name: str) -> None:
    """Every relative link leads to a file of the repository, and every anchor to a heading."""
    for link in markdown.links(name):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = (ROOT / name).parent / file if file else ROOT / name
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in markdown.anchors(str(target.resolve().relative_to(ROOT))), f"{name}: {link}"


def test_every_page_is_reached_from_the_readme() -> None:
    """No page of docs/ is an orphan; those of a folder are reached from its own README, or from the how-to."""
    linked = linked_from("README.md")
    linked |= {name for page in linked if page.endswith(("/README.md", "/how-to.md")) for name in linked_from(page)}
    assert {name for name in NAMES if name.startswith("docs/")} <= linked


def linked_from(name: str) -> set[str]:
    """The pages that a page has links to."""
    files = {link.partition("#")[0] for link in markdown.links(name) if not link.startswith("https://")}
    return {os.path.normpath(Path(name).parent / file) for file in files if file}


def test_the_pattern_language_can_say_no() -> None:
    """`shows` compares: wildcards stand for something, everything else for itself."""
    assert markdown.shows("a ... c\n...\nlast", "a b c\nx\ny\nlast\n")
    assert not markdown.shows("a ... c\nlast", "a b d\nlast\n")
    assert not markdown.shows("600", "6000\n")
    assert not markdown.shows("one", "one\ntwo\n")


def test_the_reference_names_the_whole_api() -> None:
    """Every name in `edow.__all__` stands in the reference as code."""
    text = markdown.page("docs/reference.md")
    missing = [name for name in edow.__all__ if f"`{name}" not in text and f"`edow.{name}" not in text]
    assert missing == []


def test_the_reference_has_the_real_signatures() -> None:
    """Parameters, their kinds and their defaults in the reference are those of the code."""
    seen = set()
    for block in markdown.blocks("docs/reference.md", "python"):
        assert block.words == ("signatures",), block
        for node in ast.parse(block.text).body:
            if isinstance(node, ast.ClassDef):
                real: object = getattr(edow, node.name)
                for method in node.body:
                    assert isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    check_signature(method, getattr(real, method.name), f"{node.name}.{method.name}")
                seen.add(node.name)
            else:
                assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                if node.name != "task":  # its options are a TypedDict: see the next test
                    check_signature(node, getattr(edow, node.name), node.name)
                seen.add(node.name)
    functions = {name for name in edow.__all__ if inspect.isfunction(getattr(edow, name))}
    assert functions <= seen


def test_the_reference_has_the_options_of_tasks_and_workflows() -> None:
    """The tables of options name exactly what the decorators and `with_options` take."""
    from edow.workflow.definition import ChildOptions
    from edow.workflow.task import CallOptions, TaskOptions

    def options(title: str) -> set[str]:
        return {row[0].strip("`") for row in markdown.rows(markdown.section("docs/reference.md", title))}

    assert options("Tasks") == set(TaskOptions.__annotations__)
    assert options("Workflows") == set(ChildOptions.__annotations__)
    left_out = set(TaskOptions.__annotations__) - set(CallOptions.__annotations__)
    assert left_out == {"name", "cpu", "raises"}, "the reference says which with_options does not take"
    source = next(block for block in markdown.blocks("docs/reference.md", "python") if "def task(" in block.text)
    written = next(node for node in ast.parse(source.text).body if isinstance(node, ast.FunctionDef))
    assert {arg.arg for arg in written.args.kwonlyargs} == set(TaskOptions.__annotations__)


def check_signature(written: ast.FunctionDef | ast.AsyncFunctionDef, real: object, what: str) -> None:
    assert callable(real), what
    is_async = inspect.iscoroutinefunction(real) or inspect.isasyncgenfunction(real)
    assert isinstance(written, ast.AsyncFunctionDef) == is_async, what
    namespace: dict[str, object] = {}
    bare = ast.FunctionDef(
        name="bare", args=_untyped(written.args), body=[ast.Pass()], decorator_list=[], lineno=1, col_offset=0
    )
    if sys.version_info >= (3, 12):
        bare.type_params = []
    module = ast.fix_missing_locations(ast.Module(body=[bare], type_ignores=[]))
    exec(compile(module, what, "exec"), namespace)
    expected = _parameters(namespace["bare"])
    assert _parameters(real) == expected, what


def _untyped(args: ast.arguments) -> ast.arguments:
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    for arg in every:
        if arg is not None:
            arg.annotation = None
    return args


def _parameters(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name != "self"]
