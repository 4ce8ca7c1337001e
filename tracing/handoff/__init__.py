"""Hand-offs inside a process: what is current goes along to where the work goes."""

from __future__ import annotations

from typing import Final

from tracing.handoff.detach import context_detach
from tracing.handoff.patch import Handoff, Patch, Patches
from tracing.handoff.queues import thread_queues
from tracing.handoff.threads import executor_submit, thread_start

# By the name under which `instrument()` turns each on.
HANDOFFS: Final[dict[str, Handoff]] = {
    "threads": thread_start,
    "executors": executor_submit,
    "queues": thread_queues,
    "generators": context_detach,
}

__all__ = ["HANDOFFS", "Handoff", "Patch", "Patches"]
