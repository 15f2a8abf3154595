"""The guides of the brokers are those of the drivers: every setting, with its default, and each of them is tested."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import msgspec
import pytest

from edow.address import Address
from edow.app import STORES, TRANSPORTS, now
from edow.orchestrator.config import OrchestratorConfig
from edow.worker.config import WorkerConfig
from tests.docs import markdown
from tests.docs.guides import GUIDES, OPTIONS, PLACE, Guide
from tests.docs.markdown import ROOT

SECTIONS = ["Set up", "URL", "What is guaranteed", "When something happens", "Tuning"]
LIBRARIES = {"asyncio", "subprocess", "pytest", "monkeypatch"}  # whose arguments are no settings
OTHERS = {"acks", "target_session_attrs"}  # named in a guide as `name=value`, and a setting of the broker or its client

each_guide = pytest.mark.parametrize("guide", GUIDES, ids=[guide.name for guide in GUIDES])
each_option = pytest.mark.parametrize(
    ("guide", "option"), OPTIONS, ids=[f"{guide.name}-{option}" for guide, option in OPTIONS]
)


# what is written


def test_every_driver_has_a_guide() -> None:
    """And every guide is about a scheme that the app knows, named with its extra on the page that lists them."""
    assert {scheme for guide in GUIDES for scheme in guide.schemes} == {*STORES, *TRANSPORTS}
    assert {path.stem for path in (ROOT / PLACE).glob("*.md")} == {"README", *(guide.name for guide in GUIDES)}
    listed = markdown.page(f"{PLACE}/README.md")
    for guide in GUIDES:
        extra = {**STORES, **TRANSPORTS}[guide.schemes[0]][1]
        assert re.search(rf"`{guide.schemes[0]}://.*edow\[{extra}\].*\({guide.name}\.md\)", listed), guide.name


@each_guide
def test_a_guide_lists_the_drivers_settings(guide: Guide) -> None:
    """All of them, and no other."""
    assert set(guide.table) == set(guide.options)


@each_option
def test_a_default_is_the_drivers(guide: Guide, option: str) -> None:
    """A cell that begins with a value has the real one; one in words is about an option that is empty."""
    default, meaning = guide.table[option]
    field = guide.options[option]
    written = re.match(r"`([^`]*)`", default)
    if written is None:
        assert field.default in ("", None)
    else:
        assert msgspec.convert(written[1], field.type, strict=False) == field.default
    assert len(meaning) > 10


@each_guide
def test_guides_are_alike(guide: Guide) -> None:
    """Whoever knows one finds their way in another."""
    titles = [match[2] for match in markdown.HEADING.finditer(markdown.without_blocks(markdown.page(guide.page)))]
    assert [title for title in titles if title in SECTIONS] == SECTIONS


@each_guide
def test_settings_in_the_text_exist(guide: Guide) -> None:
    """Whatever a guide writes as `name=value` is an option of the driver."""
    text = markdown.without_blocks(markdown.page(guide.page))
    named = set(re.findall(r"`([a-z_]+)=[^`]*`", text)) - OTHERS
    assert named <= {*guide.options}, guide.page


def test_the_table_of_what_to_tune_names_settings_that_exist() -> None:
    """A row for each driver, and in it options of that driver; what is said of batches is the real default."""
    section = markdown.section(f"{PLACE}/README.md", "Tuning, wherever the messages go")
    assert f"up to {OrchestratorConfig().batch:,} inputs" in section
    assert f"up to {WorkerConfig().batch} messages" in section
    assert f"({WorkerConfig().concurrency} async tasks)" in section
    told = {row[0].partition("(")[2].partition(".md")[0]: row[1:] for row in markdown.rows(section)}
    assert set(told) == {guide.name for guide in GUIDES}
    for guide in GUIDES:
        assert set(re.findall(r"`(\w+)`", " ".join(told[guide.name]))) <= {*guide.options}, guide.name


@each_guide
def test_urls_of_a_guide_are_read_by_the_driver(guide: Guide) -> None:
    """What can be copied from it works: the driver's own parser takes it."""
    package = importlib.import_module(guide.connect)
    found = [url for url in urls(markdown.page(guide.page), guide.schemes) if "..." not in url]
    assert found, guide.page
    for url in found:
        package.connect(Address(filled(url)), now)


def urls(text: str, schemes: tuple[str, ...]) -> Iterator[str]:
    for match in re.finditer(rf"(?<![a-z])(?:{'|'.join(schemes)})://[^\s'`|]+", text):
        yield match[0]


def filled(url: str) -> str:
    """With something for the words that stand for something."""
    words = {
        "?option=value": "",
        ":port": ":4242",
        "database": "7",
        "sqs://REGION": "sqs://eu-west-1",
        "@REGION": "@eu-west-1",
        "PROJECT": "my-project",
        "HOST": "host",
    }
    for word, value in words.items():
        url = url.replace(word, value)
    return url


# what is tested


@each_option
def test_every_setting_has_a_test_that_uses_it(guide: Guide, option: str) -> None:
    """A test of the driver gives it a value, and is not about how wrong ones are refused."""
    assert option in settings_given(guide.name)


@cache
def settings_given(name: str) -> set[str]:
    """What the tests about this driver write into URLs, or hand to what makes them."""
    files = [
        path for path in (ROOT / "tests").rglob("*.py") if name in path.stem and path.parent != Path(__file__).parent
    ]
    return {option for path in files for option in given_in(accepted(ast.parse(path.read_text())))}


def accepted(module: ast.AST) -> ast.AST:
    """Without what is expected to be refused, and what the tests of that are parametrized with."""
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(map(is_refusal, ast.walk(node))):
            node.decorator_list.clear()
    for node in ast.walk(module):
        if is_refusal(node):
            node.body.clear()  # type: ignore[attr-defined]
    return module


def is_refusal(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and "raises(InvalidInput" in ast.unparse(node.items[0])


def given_in(code: ast.AST) -> Iterator[str]:
    for node in ast.walk(code):
        match node:
            case ast.Call(func=callee, keywords=keywords) if ast.unparse(callee).partition(".")[0] not in LIBRARIES:
                yield from (keyword.arg for keyword in keywords if keyword.arg)
            case ast.Dict(keys=keys):
                yield from (key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str))
            case ast.Constant(value=str(text)):
                yield from re.findall(r"(?:^|[?&])([a-z_]+)=", text)
