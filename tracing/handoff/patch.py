"""A method of somebody else's class that passes through ours, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, Protocol


def without_our_frame(error: BaseException) -> None:
    """Take the frame of whoever caught an error out of its traceback; a bare `raise` then adds it to none.

    So what a program sees of an error is what it would see without us.
    """
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next


class Replaced(NamedTuple):
    """A name of a module that means ours now, and still the original to whoever took it before."""

    module: str
    name: str
    original: Any
    ours: Any


class Handoff(Protocol):
    """Something that is put on and taken off again.

    Attributes:
        on: whether it is to do anything.
    """

    on: bool

    def install(self) -> None:
        """Put it on; a second call changes nothing."""
        ...

    def remove(self) -> None:
        """Take it off."""
        ...


class Patch:
    """Replaces one attribute of a class; `remove` puts back what was there, unless somebody changed it since.

    Args:
        owner: the class, or the module; of a class that inherits the attribute, the one that it is from.
        name: of the method or function.
        make: given the original, returns the replacement, a function or a descriptor.
    """

    def __init__(
        self, owner: type | ModuleType, name: str, make: Callable[[Callable[..., Any]], Any]
    ) -> None:
        self._owner = _definer(owner, name)
        self._name = name
        self._make = make
        self._original: Callable[..., Any] | None = None
        self._ours: Any = None
        self.on = False

    def install(self) -> None:
        """Put ours in front; a second call changes nothing."""
        self.on = True
        if self._original is None:
            self._original = self._owner.__dict__[self._name]
            self._ours = self._make(self._original)
            setattr(self._owner, self._name, self._ours)

    def remove(self) -> None:
        """Take ours away; under somebody else's wrapper it stays, and asks `on` before it does anything."""
        self.on = False
        if self._original is not None and self._owner.__dict__.get(self._name) is self._ours:
            setattr(self._owner, self._name, self._original)
            self._original = self._ours = None

    def replaced(self) -> list[Replaced]:
        """The module's name that means ours now; a class has none, its methods are looked up each time."""
        if self._original is None or not isinstance(self._owner, ModuleType):
            return []
        return [Replaced(self._owner.__name__, self._name, self._original, self._ours)]


def _definer(owner: type | ModuleType, name: str) -> type | ModuleType:
    """The class that has the attribute: gevent puts a subclass in the place of `threading.Thread`."""
    classes = owner.__mro__ if isinstance(owner, type) else ()
    return next((one for one in classes if name in vars(one)), owner)


class Patches:
    """Several patches that belong together."""

    def __init__(self, *patches: Handoff) -> None:
        self._patches = patches
        self.on = False

    def add(self, *patches: Handoff) -> None:
        """Let more belong to it, which ask it whether it is on."""
        self._patches += patches

    def install(self) -> None:
        """Install all of them; a second call changes nothing."""
        self.on = True
        for patch in self._patches:
            patch.install()

    def remove(self) -> None:
        """Remove all of them, the last one first."""
        self.on = False
        for patch in reversed(self._patches):
            patch.remove()

    def replaced(self) -> list[Replaced]:
        """The names of modules that mean ours now."""
        patches = [patch for patch in self._patches if isinstance(patch, Patch | Patches)]
        return [found for patch in patches for found in patch.replaced()]
