"""Tells systemd how the service is (`Type=notify`). Without systemd it does nothing.

Source: sd_notify(3): one datagram of `KEY=value` lines to the socket named by `NOTIFY_SOCKET`.
"""

from __future__ import annotations

import os
import socket
import time


def notify(*assignments: str) -> bool:
    """Send state such as `READY=1`; return whether somebody was there to hear it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # the abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
            notifier.sendto("\n".join(assignments).encode(), address)
    except OSError:
        return False  # a manager that has gone is no reason to stop
    return True


def reloading() -> bool:
    """Say that the settings are being read again; `READY=1` ends it."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
