"""A program that a hop starts: sets the library up as programs do, does one piece of work, ends."""

from __future__ import annotations

import sys

import tracing
from tracing.doctor import trial
from tracing.doctor.hop import quietly

if __name__ == "__main__":
    tracing.configure()
    tracing.instrument()
    quietly(getattr(trial, sys.argv[1]), sys.argv[2])
