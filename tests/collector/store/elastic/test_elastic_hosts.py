"""Several hosts of one cluster, one of which is away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from collector.store.elastic import open_store
from collector.store.elastic.connection import Unavailable
from collector.testing.store_samples import TRACE, log, numbered, span

VERSION = "9.4.3"
QUESTIONS = 12  # the client goes round its hosts, and asks one that was away again after a while


@pytest.mark.parametrize("dead_first", [True, False])
def test_one_of_two_hosts_is_away(
    elasticsearch: Callable[[str], str], free_port: Callable[[], int], tmp_path: Path, dead_first: bool
) -> None:
    """Starting, taking in and every question go on with the other."""
    place, dead = elasticsearch(VERSION).removeprefix("http://"), f"127.0.0.1:{free_port()}"
    hosts = f"{dead},{place}" if dead_first else f"{place},{dead}"
    store = open_store(f"http://{hosts}?namespace={uuid4().hex}&replicas=0", tmp_path / "store")
    assert store.server is not None, "it was not reached at the start"
    assert store.append(numbered([log(1), span(2)])).stored == 2
    assert store.commit() == 2
    for _ in range(QUESTIONS):
        assert store.count() == 2
        assert len(store.trace(TRACE, records_max=9)) == 1
        assert store.stats().records == 2
    store.close()


def test_all_hosts_are_away(free_port: Callable[[], int]) -> None:
    """And the error names them, for who looks for a wrong letter."""
    hosts = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    with pytest.raises(Unavailable, match=f"http://{hosts[0]}, http://{hosts[1]}"):
        open_store(f"http://{','.join(hosts)}", None)
