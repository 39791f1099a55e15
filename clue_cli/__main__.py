"""`python -m clue_cli` is `clue`."""

import sys

from clue_cli.app import run

if __name__ == "__main__":
    sys.exit(run())
