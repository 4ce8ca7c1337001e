"""A program that another one starts: sets its library up, does one piece of work, ends."""

from __future__ import annotations

import sys

import context_side
from context_hop import quietly

if __name__ == "__main__":
    context_side.set_up_child()
    quietly(getattr(context_side, sys.argv[1]), sys.argv[2])
