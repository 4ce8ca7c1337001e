"""What an incarnation needs of the spool that it is one of, and how it says that it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tracing.spool.incarnation import Incarnation


class DescriptorLost(Exception):
    """Our descriptors are closed, by somebody or in order: another incarnation must take the line."""


class Home(Protocol):
    """Where an incarnation leaves lines that it cannot take: the spool that it is one of."""

    def write_elsewhere(self, own: Incarnation, line: bytes, severity_number: int) -> None:
        """Take a line that is not this incarnation's any more: after a fork, after the end."""
        ...

    def failed(self, error: Exception) -> None:
        """Count a line that was lost by an error that nobody foresaw."""
        ...
