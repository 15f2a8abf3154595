"""Broken files, written next to the demo's database, so that there are dead letters whatever folder is indexed.

They are of the kinds that Python's own tests contain, where those are installed.
"""

from __future__ import annotations

from pathlib import Path

BROKEN = {
    "unknown_encoding.py": b"# coding: klingon\nimport os\n",
    "undeclared_latin1.py": "# caf\u00e9\nimport sys\n".encode("latin-1"),
    "utf16_with_mark.py": "import json\n".encode("utf-16"),
    "mark_against_declaration.py": b"\xef\xbb\xbf# coding: latin-1\nimport re\n",
    "cut_off_in_a_character.py": "import ast\nname = '\u2713'\n".encode()[:-3],
}


def write(folder: Path) -> None:
    folder.mkdir()
    for name, content in BROKEN.items():
        (folder / name).write_bytes(content)
