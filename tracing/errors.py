"""Every error the library raises on purpose, sorted by who must act.

TracingError
    ConfigurationError       the operator; raised by `configure()` and at start-up only
    InvalidLine              whoever wrote the line; names the field and what was expected
    ExportError              nobody yet; the batch is still ours
        RetryableExportError     try again after `retry_after_s`
        PermanentExportError     give the batch up, count it, go on

None of these ever leaves a log call, a span or a propagator: there, bad input is counted
(`tracing.stats()`) and the program goes on.
"""

from __future__ import annotations

__all__ = [
    "ConfigurationError",
    "ExportError",
    "InvalidLine",
    "PermanentExportError",
    "RetryableExportError",
    "TracingError",
]


class TracingError(Exception):
    """Base of every error this library raises on purpose."""


class ConfigurationError(TracingError):
    """A setting is wrong; the message names it, its value and what would be accepted."""


class InvalidLine(TracingError):
    """A line is not a record line; nothing of it was used.

    Attributes:
        reason: one word of the closed list in `tracing.line.REASONS`, fit for a counter.
        field: JSON key the trouble is at, `None` when the whole line is meant.
    """

    def __init__(self, reason: str, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field


class ExportError(TracingError):
    """A batch could not be delivered; it is still in the spool."""


class RetryableExportError(ExportError):
    """The other side may take the same batch later.

    Attributes:
        retry_after_s: seconds the other side asked for; `None`: our own back-off decides.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentExportError(ExportError):
    """The other side will never take this batch, for instance because it does not know the format."""
