"""The hops of this group are those that `backtrail doctor` tries; the program is for both libraries."""

from __future__ import annotations

import sys
from pathlib import Path

from tracing.doctor.hops.processes import hops

HOPS = hops([sys.executable, str(Path(__file__).with_name("context_program.py"))])
