"""The contract kit for stores: each promise of `collector.store.contract` has its test here.

Subclass `StoreContract`, give it two fixtures, and inherit every test (needs pytest):

```python
class TestMyStore(StoreContract):
    @pytest.fixture
    def store(self): ...                  # an empty store

    @pytest.fixture
    def reopen(self): ...                 # a function: store -> the same data opened anew after a crash
```

A store that cannot keep a promise by its nature names the test and the reason in `cannot_keep`.
The kit compares for equality, so that answers with something extra fail, too. For each promise
`tests/collector/store/test_store_contract_bites_*.py` have a store that breaks it, and is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from collector.testing.store_counts import CountsContract
from collector.testing.store_reading import ReadingContract
from collector.testing.store_writing import Reopen, WritingContract


class StoreContract(WritingContract, ReadingContract, CountsContract):
    """Every promise of a store."""

    cannot_keep: ClassVar[Mapping[str, str]] = {}  # name of a test -> the reason

    @pytest.fixture(autouse=True)
    def _skip_what_cannot_be_kept(self, request: pytest.FixtureRequest) -> None:
        reason = self.cannot_keep.get(request.function.__name__)
        if reason is not None:
            pytest.skip(reason)


__all__ = ["Reopen", "StoreContract"]
