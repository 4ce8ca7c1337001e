"""Programs that are started: the environment tells them where they belong."""

from __future__ import annotations

import inspect
import os
import subprocess
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from tracing.handoff.patch import Patch, without_our_frame
from tracing.health import Fuse
from tracing.propagation.environment import to_environment
from tracing.scopes import current_context

fuse: Final = Fuse("hand-off to subprocesses")

# Where `env` stands among the arguments, `self` not counted; it may be given by its place.
_ENV_INDEX: Final = list(inspect.signature(subprocess.Popen.__init__).parameters).index("env") - 1


def _init(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def init(self: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> None:
        if popen_init.on and not fuse.blown:
            try:
                context = current_context()
                if context:
                    args, kwargs = _with_environment(args, kwargs)
            except Exception as error:
                fuse.failed(error)
        try:
            original(self, *args, **kwargs)
        except BaseException as error:
            without_our_frame(error)
            raise

    return init


def _with_environment(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    by_place = len(args) > _ENV_INDEX
    given = args[_ENV_INDEX] if by_place else kwargs.get("env")
    env = os.environ if given is None else given
    if any(isinstance(name, bytes) for name in env):
        env = {os.fsdecode(name): os.fsdecode(value) for name, value in env.items()}
    told = to_environment(env)
    if given is not None:  # what the program itself says counts
        told |= env
    if by_place:
        return (*args[:_ENV_INDEX], told, *args[_ENV_INDEX + 1 :]), kwargs
    return args, {**kwargs, "env": told}


popen_init: Final = Patch(subprocess.Popen, "__init__", _init)
