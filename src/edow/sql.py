"""SQL as SQL: named queries and numbered migrations, read from the `.sql` files of a package. For every database."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_queries(package: str) -> Mapping[str, str]:
    """The queries of the package's `queries.sql` by name. Each begins with a line `-- name: ...`."""
    parts = _NAME.split(files(package).joinpath("queries.sql").read_text("utf-8"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def load_migrations(package: str) -> dict[int, str]:
    """The files `migrations/NNNN_*.sql` of the package by number."""
    folder = sorted(files(package).joinpath("migrations").iterdir(), key=lambda file: file.name)
    return {int(file.name[:4]): file.read_text("utf-8") for file in folder if file.name.endswith(".sql")}
