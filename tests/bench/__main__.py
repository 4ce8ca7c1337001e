"""`python -m tests.bench [--rounds N] [--only TEXT]`: every row, printed as it comes, saved as JSON."""

from __future__ import annotations

import argparse
import sys

from tests.bench.harness import machine, measure, save, show
from tests.bench.rows import handoff_rows, library_rows, service_rows


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved runs of each contender")
    parser.add_argument("--only", default="", help="rows whose name contains this text")
    options = parser.parse_args()
    print("\n".join(f"{key}: {value}" for key, value in machine().items()))
    results = []
    for row in library_rows() + handoff_rows() + service_rows():
        if options.only in row.name:
            results.append(
                measure(row, options.rounds, lambda text: print(f"\r{text:78.78}", end="", file=sys.stderr))
            )
            print("\r" + " " * 78 + "\r", end="", file=sys.stderr)
            print(show(results[-1]), flush=True)
    print(f"\nsaved: {save(results)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
