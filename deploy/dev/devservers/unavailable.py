"""The one way in which a server can be missing."""

from __future__ import annotations


class ServerUnavailable(Exception):
    """A server cannot be had here; the message says in one line what is missing and what would help."""
