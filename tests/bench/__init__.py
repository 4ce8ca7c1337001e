"""Benchmarks: ours beside the peers, in one run. `python -m tests.bench` or `make bench`."""
