"""What is changed on purpose, written down when it happens: a deploy, a setting, a flag.

A change is a log record with an event name (OpenTelemetry logs data model, "Events"), so it takes the way
of every record: it is in the spool before the call returns, and inside a span it has the span's ids. A
diagnosis asks what was changed just before something went wrong.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final

from tracing import semconv as sc
from tracing.health import Fuse
from tracing.logs.records import write

LOGGER: Final = "tracing.changes"

_fuse: Final = Fuse("record_change")


def record_change(
    kind: str,
    name: str | None = None,
    *,
    old: object = None,
    new: object = None,
    service: str | None = None,
    **attributes: Any,
) -> None:
    """Write down that something was changed on purpose, now.

    ```python
    tracing.record_change("flag", "new-pricing", old=False, new=True)
    tracing.record_change("deployment", "orders", old="1.4.1", new="1.4.2", service="orders")
    ```

    Args:
        kind: a word: `deployment`, `config`, `flag`, `infrastructure`, or one of your own.
        name: what was changed: a flag, a setting, a program.
        old, new: values before and after, if there are such; redacted like everything else.
        service: whom it concerns, when that is not this process's service; `*`: everybody.
        attributes: whatever else is worth knowing, for instance `deployment_id=…`.

    Never raises. The program's own handlers do not see the record.
    """
    if _fuse.blown:
        return
    try:
        caller = sys._getframe(1)
        record = logging.LogRecord(
            LOGGER,
            logging.INFO,
            caller.f_code.co_filename,
            caller.f_lineno,
            _sentence(kind, name, old, new),
            (),
            None,
            caller.f_code.co_name,
        )
        told = {
            **attributes,
            sc.EVENT_NAME: sc.CHANGE_EVENT,
            sc.CHANGE_KIND: kind,
            sc.CHANGE_NAME: name,
            sc.CHANGE_OLD: old,
            sc.CHANGE_NEW: new,
            sc.CHANGE_SERVICE: service,
        }
        own = record.__dict__
        for key, value in told.items():
            if value is not None:
                own[f"change.{key}" if key in own else key] = value
        write(record)
    except Exception as error:
        _fuse.failed(error)


def _sentence(kind: str, name: str | None, old: object, new: object) -> str:
    """`flag new-pricing changed from False to True`."""
    what = f"{kind} {name}" if name else kind
    before = f" from {old}" if old is not None else ""
    after = f" to {new}" if new is not None else ""
    return f"{what} changed{before}{after}"
