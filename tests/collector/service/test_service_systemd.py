"""Telling systemd how we are: one datagram, or nothing at all."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from collector.service import systemd


def test_it_is_silent_without_systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a missing nor a dead manager is an error."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert systemd.notify("READY=1") is False
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert systemd.notify("READY=1") is False


@pytest.mark.parametrize("abstract", [False, True])
def test_the_manager_hears_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, abstract: bool) -> None:
    """As a path or in the abstract namespace."""
    name = f"@backtrail-{tmp_path.name}" if abstract else str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if abstract else name)
        manager.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert systemd.notify("READY=1", "STATUS=listening")
        assert manager.recv(4096) == b"READY=1\nSTATUS=listening"
        assert systemd.reloading()
        state, _, clock = manager.recv(4096).partition(b"\nMONOTONIC_USEC=")
        assert (state, clock.isdigit()) == (b"RELOADING=1", True)
