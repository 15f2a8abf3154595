"""`python -m edow` is the `edow` command."""

from __future__ import annotations

import sys

from edow.cli import main

if __name__ == "__main__":
    sys.exit(main())
