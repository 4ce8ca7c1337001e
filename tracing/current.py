"""The typed view of what is bound here, a registry of contextvars-extras.

In a module of its own, imported by who asks for `tracing.current`: the registry costs microseconds where the
hot path has nanoseconds, and its import brings asyncio, a tenth of a second, into programs that have none.
"""

from __future__ import annotations

from typing import Final

from contextvars_extras import ContextVarDescriptor, ContextVarsRegistry

from tracing.context import Fields, fields_variable


class Current(ContextVarsRegistry):
    """The typed view of what is bound here, for programs that use contextvars-extras themselves."""

    _registry_allocate_on_setattr = False

    fields: ContextVarDescriptor[Fields] = ContextVarDescriptor.from_existing_var(fields_variable)


current: Final = Current()  # type: ignore[no-untyped-call]
