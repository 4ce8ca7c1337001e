"""The proof that the contract kit bites: run one of its tests on a broken store, and expect a failure."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

pytest.register_assert_rewrite("collector.testing")  # the kit's assertions shall say what differs

from collector.store.contract import Store  # noqa: E402
from collector.store.memory import MemoryStore  # noqa: E402
from collector.testing.store_contract import StoreContract  # noqa: E402
from collector.testing.store_rates import TimelineContract  # noqa: E402


class _Contract(StoreContract, TimelineContract):
    """All promises there are."""


def _same(store: Store) -> Store:
    return store


@pytest.fixture
def kit_rejects() -> Callable[..., None]:
    """Call `kit_rejects(test, make_store, reopen)`; a sound store has to pass the same test."""

    def check(promise: str, make_store: Callable[[], Store], reopen: Callable[[Any], Store] = _same) -> None:
        _run(promise, MemoryStore(), _same)
        with pytest.raises((AssertionError, pytest.fail.Exception, KeyError)):
            _run(promise, make_store(), reopen)

    return check


def _run(promise: str, store: Store, reopen: Callable[[Any], Store]) -> None:
    test = getattr(_Contract(), promise)
    given = {"store": store, "reopen": reopen}
    test(**{name: given[name] for name in inspect.signature(test).parameters})
