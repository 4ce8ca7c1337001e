"""`python -m collector …` is `backtrail …` for the collector's commands."""

import sys

from collector.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
