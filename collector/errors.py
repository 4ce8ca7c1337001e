"""Every error the collector raises on purpose, sorted by who must act.

CollectorError
    ConfigurationError      the operator; at start-up only
    Refused                 the sender; carries a reason of the closed list and, if known, the field
    Overloaded              nobody yet; the sender keeps the data and comes back after `retry_after_s`
    DataDirectoryInUse      the operator; another process holds the directory
    StoreFailed             the operator; the disk is full or failed, the write-ahead log has the records
    Damaged                 the operator; a file is not what we wrote; says which file and where
    QueryError              the person asking; says where the query is wrong and what would be right
        TooCostly               it says how dear the query is, and what would be cheaper
    TookTooLong             the person asking; the question was given up
    NotFound                the person asking; nothing is stored under this id
    Unreachable             the person asking; no collector answers at this URL
"""

from __future__ import annotations

from typing import Self

__all__ = [
    "CollectorError",
    "ConfigurationError",
    "Damaged",
    "DataDirectoryInUse",
    "NotFound",
    "Overloaded",
    "QueryError",
    "Refused",
    "StoreFailed",
    "TooCostly",
    "TookTooLong",
    "Unreachable",
]


class CollectorError(Exception):
    """Base of every error the collector raises on purpose."""


class ConfigurationError(CollectorError):
    """A setting is wrong; the message names it, its value and what would be accepted."""


class Refused(CollectorError):
    """One record or one request cannot be taken.

    Attributes:
        reason: a word of the closed list (`tracing.line.REASONS`, `collector.admit.REASONS`).
        field: JSON path of the trouble, `None` when the whole is meant.
    """

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class Overloaded(CollectorError):
    """The write-ahead log is full or the disk is; the sender must keep what it has.

    Attributes:
        retry_after_s: seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DataDirectoryInUse(CollectorError):
    """Another process writes to this data directory."""


class StoreFailed(CollectorError):
    """The store could not write; what was appended since its last commit must be appended again."""


class Damaged(CollectorError):
    """A file of ours does not hold what we wrote; the message names it and the position."""


class QueryError(CollectorError):
    """A search or a time could not be understood.

    Attributes:
        position: 0-based character of the text at which understanding ended, `None` if not known.
    """

    def __init__(self, message: str, *, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class TooCostly(QueryError):
    """A search would read more than one search may."""


class TookTooLong(CollectorError):
    """A question was given up after its time."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(
            f"the question was given up after {timeout_s:g} s (query_timeout_s); ask of a shorter time, or"
            " for whole words instead of wildcards"
        )


class NotFound(CollectorError):
    """Nothing is stored under this id."""

    @classmethod
    def of_trace(cls, trace_id: str) -> Self:
        """The error that says of a trace that nothing of it is stored, and what to do."""
        return cls(
            f"trace {trace_id}: nothing is stored under this id; a record is found about a second after"
            " it arrived, and `backtrail stats` shows the time range that is kept"
        )


class Unreachable(CollectorError):
    """No collector answers; the message names the URL and the reason."""
