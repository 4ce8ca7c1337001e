"""For log libraries beside `logging` whose messages become records: how they pass on what they know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Any, Final

_OWN: Final = frozenset(logging.LogRecord("", logging.INFO, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def as_extra(record: logging.LogRecord, values: Mapping[str, Any]) -> None:
    """Put values on a record as `extra=` does; a name that records have themselves becomes `extra.<name>`."""
    for key, value in values.items():
        record.__dict__[f"extra.{key}" if key in _OWN else str(key)] = value


class _Elsewhere(threading.local):
    """What another library hands over to `logging`, having been recorded already.

    Attributes:
        extra: the `extra` of the record that this thread is handing over.
    """

    extra: object = None


elsewhere: Final = _Elsewhere()


def is_recorded(record: logging.LogRecord) -> bool:
    """Whether a record is the copy of a message that was recorded where it came from."""
    extra = record.__dict__.get("extra")
    return extra is not None and extra is elsewhere.extra
