"""A mark says whether this is the process that made it, however a child came to be."""

from __future__ import annotations

import ctypes
import mmap
import os

import pytest

from tracing import forks


def child_sees(mark: forks.Mark, *, hooks: bool) -> int:
    """What a forked child reads from a mark; without Python's hooks, as servers written in C fork."""
    pid = os.fork() if hooks else ctypes.PyDLL(None).fork()
    if pid == 0:
        os._exit(mark[0])
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("hooks", [True, False])
@pytest.mark.parametrize("kernel", ["with the advice", "without it", "one that takes any advice"])
def test_a_child_is_another_process(hooks: bool, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On every kernel."""
    if kernel == "without it":
        monkeypatch.setattr(forks, "_WIPE_ON_FORK", -1)
    if kernel == "one that takes any advice":
        monkeypatch.setattr(forks, "_NO_ADVICE", mmap.MADV_NORMAL)
    mark = forks.mark()
    assert isinstance(mark, mmap.mmap) == (kernel == "with the advice")
    assert mark[0] == 1
    assert child_sees(mark, hooks=hooks) == 0
    assert mark[0] == 1


def test_nobody_is_nobody() -> None:
    """What is given up is nobody's."""
    assert forks.NOBODYS[0] == 0
