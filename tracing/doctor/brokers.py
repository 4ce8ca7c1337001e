"""What the hops through brokers share: where the broker is, and names on it that are nobody else's."""

from __future__ import annotations

import os
import re
import secrets

URL_VARIABLE = "BROKER_URL"
MESSAGES = 1000  # at once

_RUN = secrets.token_hex(4)
_ODD = re.compile(r"[^A-Za-z0-9._-]+")  # what no broker has in a name


def url() -> str:
    """Where the broker is; whoever runs the hops has said so."""
    return os.environ[URL_VARIABLE]


def place(name: str) -> str:
    """The name of a queue, topic or stream that is made for this run and taken away after it."""
    return f"backtrail-doctor.{_RUN}.{_ODD.sub('-', name)}"
