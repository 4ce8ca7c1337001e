"""What is current, packed for another process of the same program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from tracing.context import NO_FIELDS, Fields, Snapshot
from tracing.health import Fuse
from tracing.propagation import Propagator
from tracing.sink import slot

fuse: Final = Fuse("hand-off to worker processes")

# Both ends are ours and of one program: its own ids are trusted, and no other format is needed.
_wire: Final = Propagator(("tracecontext", "baggage"))
_PLAIN: Final = (str, int, float, bool)  # fields of other types may be no good in another process


class Parcel:
    """A snapshot that can be pickled, with what sets the library up in a process that was started afresh."""

    __slots__ = ("_fields", "_headers", "_setup")

    def __init__(self, snapshot: Snapshot) -> None:
        self._headers: dict[str, str] = {}
        _wire.inject(self._headers, snapshot.context)
        self._fields = {key: value for key, value in snapshot.fields.items() if isinstance(value, _PLAIN)}
        self._setup = slot.child_setup() if slot.child_setup is not None else None

    def unpacked(self) -> Snapshot:
        """The snapshot, in the process that the parcel came to; sets the library up there if need be."""
        if self._setup is not None:
            self._setup()
        return Snapshot.of(_wire.extract(self._headers), Fields(self._fields) if self._fields else NO_FIELDS)


class Packed:
    """A function with the context that it is to be called in, for a worker process.

    Attributes:
        function: the program's own.
    """

    __slots__ = ("_parcel", "function")

    def __init__(self, function: Callable[..., Any], parcel: Parcel) -> None:
        self.function = function
        self._parcel = parcel

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._parcel.unpacked().run(self.function, *args, **kwargs)


def packed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function to be called in a worker process with what is current here; never raises."""
    if fuse.blown or not callable(function):
        return function
    try:
        snapshot = Snapshot()
        return function if snapshot.empty else Packed(function, Parcel(snapshot))
    except Exception as error:
        fuse.failed(error)
        return function
