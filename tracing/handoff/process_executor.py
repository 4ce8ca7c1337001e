"""`ProcessPoolExecutor`: what it runs belongs to who submitted it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import wraps
from typing import Any, Final

from tracing.handoff.parcel import packed
from tracing.handoff.patch import Patch, without_our_frame


def _submit(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def submit(self: ProcessPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, packed(fn) if process_submit.on else fn, *args, **kwargs)
        except BaseException as error:
            without_our_frame(error)
            raise

    return submit


process_submit: Final = Patch(ProcessPoolExecutor, "submit", _submit)
