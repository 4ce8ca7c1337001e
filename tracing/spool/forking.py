"""When a thread may be started: not in a process that is going to be forked behind Python's back.

uWSGI loads the application in its master and forks by itself, with the interpreter's lock given up so that
threads can run. If one of them holds the lock at that moment, the worker waits for it for ever, before its
first request. Python's own `os.fork` cannot do this: it forks with the lock held.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def begin_after_forks(begin: Callable[[], None]) -> None:
    """Call `begin` now, or in a uWSGI master: in each worker, once it has been forked."""
    uwsgi: Any = sys.modules.get("uwsgi")  # there only inside of uWSGI
    if uwsgi is None or uwsgi.worker_id() or uwsgi.mule_id():
        begin()
        return
    before: Callable[[], object] | None = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        if before is not None:
            before()
        begin()

    uwsgi.post_fork_hook = hook
