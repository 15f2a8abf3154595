"""The entry of `python -m scripts.failures`."""

import sys

from scripts.failures.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
