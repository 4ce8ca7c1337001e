"""Turns on what is installed: servers, clients, workers, and the hand-offs inside the process."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from tracing.errors import ConfigurationError
from tracing.handoff import HANDOFFS, Handoff
from tracing.instrumentation.libraries import available, fuse, libraries
from tracing.instrumentation.table import ENTRIES, GUARDS
from tracing.settings import SettingsWarning
from tracing.sink import slot

__all__ = ["instrument", "instrumented", "uninstrument"]


def instrument(*names: str, exclude: Iterable[str] = ()) -> list[str]:
    """Let clients, servers and threads carry the trace, without a change to the program's code.

    A library that is imported already is instrumented at once, another when it is imported. Objects that
    were made before, such as a client, may be left out, so call it early. Calling it again adds what is new.

    Args:
        names: of libraries and hand-offs; default: everything that is installed.
        exclude: names to leave out, in addition to those of the setting `instrument_exclude`.
    Returns:
        The names that are on, or will be with the import of their library.
    Raises:
        ConfigurationError: nobody knows a name.
    """
    known = [*HANDOFFS, *dict.fromkeys(entry.name for entry in ENTRIES)]
    left_out = set(exclude)
    unknown = sorted({*names, *left_out} - set(known))
    if unknown:
        raise ConfigurationError(f"instrument: {', '.join(unknown)} unknown; known are {', '.join(known)}")
    if not slot.enabled:
        return []
    left_out |= slot.left_out
    for name in sorted(slot.left_out.difference(known)):
        warnings.warn(f"instrument_exclude: {name!r} is no name of ours", SettingsWarning, stacklevel=2)
    wanted = [name for name in names or known if name not in left_out]
    turned_on = []
    for name, handoff in HANDOFFS.items():
        if name in wanted and _installed(handoff):
            turned_on.append(name)
    for entry in ENTRIES:
        if entry.name in wanted and available(entry):
            libraries.turn_on(entry)
            turned_on.append(entry.name)
    for guard in GUARDS:
        if available(guard):
            libraries.turn_on(guard)
    return list(dict.fromkeys(turned_on))


def _installed(handoff: Handoff) -> bool:
    """Put a hand-off on; not where gevent, imported before us, has put a class of its own in its place."""
    try:
        handoff.install()
    except Exception as error:
        handoff.remove()
        fuse.failed(error)
        return False
    return True


def uninstrument() -> None:
    """Take everything off again that `instrument()` put on."""
    for handoff in HANDOFFS.values():
        handoff.remove()
    libraries.turn_off()


def instrumented() -> list[str]:
    """The names that `instrument()` has turned on, as it takes them itself."""
    names = {entry.name for entry in ENTRIES}
    on = [name for name, handoff in HANDOFFS.items() if handoff.on]
    return [*on, *(name for name in libraries.wanted if name in names)]
