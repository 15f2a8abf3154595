"""A document pipeline: every Python file of some folders is read, tokenised and indexed; a report joins them.

One execution fans out over all files. A file that cannot be decoded fails, is retried, and becomes a dead letter that
the execution waits for: somebody redrives it with `errors="replace"`, and the pipeline goes on to its end.
"""

from __future__ import annotations

import asyncio
import io
import keyword
import os
import sqlite3
import tokenize
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import edow
from edow.demo.effects import connect, effect

MOST_IMPORTED = "SELECT module, count(*) FROM imports GROUP BY module ORDER BY 2 DESC, 1 LIMIT 5"
SEARCH = "SELECT path FROM search WHERE search MATCH ? ORDER BY rank LIMIT 3"
SKIPPED = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Report:
    """What the index says about the files."""

    files: int
    tokens: int
    most_imported: list[tuple[str, int]]
    query: str
    found: list[str]


@edow.workflow
async def index_library(folders: list[str]) -> Report:
    """List, fan out, join."""
    paths = await list_files(folders)
    await asyncio.gather(*(index_file(path) for path in paths))
    return await build_index()


@edow.task
def list_files(folders: list[str]) -> list[str]:
    return [path for folder in folders for path in python_files(folder)]


@edow.task(cpu=True, retry=edow.Retry(attempts=3, initial="100ms"), exhausted="park", timeout="60s")
def index_file(path: str, errors: str = "strict") -> int:
    """Tokenise one file and store what it imports and names; the number of its tokens."""
    text = read(path, errors)
    tokens, imports, names = analyse(text)
    with effect(f"index {path}") as database:
        if database is not None:
            database.execute("INSERT INTO documents VALUES (?, ?, ?)", (path, tokens, " ".join(sorted(names))))
            database.executemany("INSERT INTO imports VALUES (?, ?)", [(path, module) for module in imports])
    return tokens


@edow.task
def build_index() -> Report:
    """Fill the full-text index from what the files' tasks have stored, and report."""
    with effect("report all") as database:
        if database is not None:
            database.execute("INSERT INTO search SELECT path, names FROM documents")
    with closing(connect()) as database:
        return report(database)


# ── plain functions ───────────────────────────────────────────────────────────────────────────────────────────────────


def python_files(folder: str) -> Iterator[str]:
    """In a stable order, without installed packages."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - SKIPPED)
        yield from (os.path.join(here, name) for name in sorted(files) if name.endswith(".py"))


def read(path: str, errors: str) -> str:
    """The text, decoded as Python itself would (PEP 263). With `errors` other than "strict" anything can be read."""
    if errors == "strict":
        with tokenize.open(path) as source:
            return source.read()
    with open(path, encoding="utf-8", errors=errors) as source:
        return source.read()


def analyse(text: str) -> tuple[int, set[str], set[str]]:
    """Number of tokens, modules imported, names used."""
    count = 0
    imports: set[str] = set()
    names: set[str] = set()
    statement: list[str] = []
    for token in tokens_of(text):
        count += 1
        if token.type == tokenize.NEWLINE:
            imports.update(imported_by(statement))
            statement = []
        elif token.type in (tokenize.NAME, tokenize.OP):
            statement.append(token.string)
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                names.add(token.string)
    return count, imports, names


def tokens_of(text: str) -> Iterator[tokenize.TokenInfo]:
    """Up to the first thing that is no Python: a syntax error is no reason to lose a document."""
    try:
        yield from tokenize.generate_tokens(io.StringIO(text).readline)
    except (tokenize.TokenError, SyntaxError):
        return


def imported_by(statement: list[str]) -> Iterator[str]:
    """Top-level modules that an import statement, given as its tokens, names."""
    match statement:
        case ["from", module, *_] if not module.startswith("."):
            yield module
        case ["import", *rest]:
            yield from (name for before, name in pairwise([",", *rest]) if before == ",")


def report(database: sqlite3.Connection) -> Report:
    [(files, tokens)] = database.execute("SELECT count(*), coalesce(sum(tokens), 0) FROM documents")
    most = database.execute(MOST_IMPORTED).fetchall()
    query = " ".join(module for module, _ in most[:3])
    found = database.execute(SEARCH, (query,)) if query else ()
    return Report(files, tokens, most, query, [path for (path,) in found])
