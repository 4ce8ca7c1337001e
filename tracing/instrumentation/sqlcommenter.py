"""Database commands that say the trace in a comment: sqlite3, psycopg, and whatever SQLAlchemy talks to.

```sql
SELECT * FROM orders WHERE id = %s /*traceparent='00-…-…-01'*/
```
The database's own logs and its list of running commands then name the trace. Only with the setting
`sql_comments`: to whatever keeps commands by their text, such as sqlite3's cache of statements, each command
becomes one that it has never seen. psycopg prepares by itself a command that it has seen five times, and then
prepares none; what the program itself wants prepared (`prepare=True`) is left alone. Parameters stay as they
are. A command that has a comment already is not changed, as the format wants it.

Source: sqlcommenter, "Specification". Of its fields only `traceparent`: a `tracestate` comes with percent
signs, which in the text of a command are placeholders to some drivers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, wraps
from importlib import import_module
from typing import Any, Final
from urllib.parse import quote

from tracing.handoff import Handoff, Patch
from tracing.health import Fuse
from tracing.propagation import messages
from tracing.sink import slot

_FIELD: Final = "traceparent"

fuse: Final = Fuse("comments in database commands")


def comment(fields: Mapping[str, str]) -> str:
    """Fields as the format has them: sorted, percent-encoded, in quotes; empty for none."""
    pairs = (f"{quote(name, safe='')}='{quote(value, safe='')}'" for name, value in sorted(fields.items()))
    text = ",".join(pairs)
    return f"/*{text}*/" if text else ""


def commented(command: str) -> str:
    """A command with the current trace in a comment, before its last semicolon; never raises."""
    found = _comment_for(command)
    if not found:
        return command
    bare = command.rstrip()
    end = ";" if bare.endswith(";") else ""
    return f"{bare.removesuffix(';').rstrip()} {found}{end}"


def _comment_for(command: str) -> str:
    """What is to be put behind a command; empty where it is to stay as it is."""
    if not slot.active or not slot.sql_comments or fuse.blown:
        return ""
    # A comment, or what looks like one and is in quotes.
    if not command.strip() or "/*" in command or "--" in command:
        return ""
    try:
        found = messages.texts().get(_FIELD)
        return comment({_FIELD: found}) if found else ""
    except Exception as error:
        fuse.failed(error)
        return ""


# ---------------------------------------------------------------- sqlite3


def sqlite3_patches() -> list[Handoff]:
    """Its classes are written in C: `connect` gives subclasses of them."""
    modules = import_module("sqlite3"), import_module("sqlite3.dbapi2")
    return [Patch(module, "connect", _connect) for module in modules]


def _connect(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def connect(*args: Any, **kwargs: Any) -> Any:
        # The sixth argument by its place; in the order of the documentation nobody gives that many.
        if slot.sql_comments and len(args) <= _FACTORY_INDEX:
            base = kwargs.get("factory") or import_module("sqlite3").Connection
            if isinstance(base, type):
                kwargs["factory"] = _connection_class(base)
        return original(*args, **kwargs)

    return connect


_FACTORY_INDEX: Final = 5  # after database, timeout, detect_types, isolation_level, check_same_thread


@cache
def _connection_class(base: type) -> type:
    def cursor(self: Any, factory: Any = None) -> Any:
        chosen = factory or import_module("sqlite3").Cursor
        made = _cursor_class(chosen) if isinstance(chosen, type) else chosen
        return parent.cursor(self, made)

    parent: Any = base
    # Its shortcuts make cursors by other means than by `cursor`.
    methods = {name: _execute(getattr(parent, name)) for name in ("execute", "executemany")}
    return type(base.__name__, (base,), {**methods, "cursor": cursor, "__module__": base.__module__})


@cache
def _cursor_class(base: type) -> type:
    parent: Any = base
    methods = {name: _execute(getattr(parent, name)) for name in ("execute", "executemany")}
    return type(base.__name__, (base,), {**methods, "__module__": base.__module__})


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute(self: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, commented(command) if isinstance(command, str) else command, *args, **kwargs)

    return execute


# ---------------------------------------------------------------- psycopg


def psycopg_patches() -> list[Handoff]:
    """Cursors of both sorts, and those that the server keeps."""
    cursors = import_module("psycopg")
    patches: list[Handoff] = []
    for name, make in (
        ("Cursor", _psycopg_execute),
        ("ServerCursor", _psycopg_execute),
        ("AsyncCursor", _psycopg_execute_async),
        ("AsyncServerCursor", _psycopg_execute_async),
    ):
        patches.append(Patch(getattr(cursors, name), "execute", make))
    patches.append(Patch(cursors.Cursor, "executemany", _psycopg_execute))
    patches.append(Patch(cursors.AsyncCursor, "executemany", _psycopg_execute_async))
    return patches


def _psycopg_execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, _psycopg_commented(query, kwargs), *args, **kwargs)

    return execute


def _psycopg_execute_async(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    async def execute(self: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        return await original(self, _psycopg_commented(query, kwargs), *args, **kwargs)

    return execute


def _psycopg_commented(query: Any, options: Mapping[str, Any]) -> Any:
    """A command as text, as bytes, or composed of parts, which gets one part more."""
    if options.get("prepare") or not slot.sql_comments:
        return query
    if isinstance(query, str):
        return commented(query)
    try:
        sql = import_module("psycopg.sql")
        if isinstance(query, bytes):
            return commented(query.decode()).encode()
        if isinstance(query, sql.SQL | sql.Composed):
            found = _comment_for(query.as_string(None))
            return query + sql.SQL(f" {found}") if found else query
    except Exception as error:
        fuse.failed(error)
    return query


# ---------------------------------------------------------------- SQLAlchemy


def say_trace(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
    """Listens to `before_cursor_execute`: the command with its comment, and the parameters as they are."""
    return commented(statement), parameters


class _Listener:
    """SQLAlchemy's own event for a command that is about to be sent, of all engines."""

    _EVENT: Final = "before_cursor_execute"

    def __init__(self) -> None:
        self.on = False
        self._target = import_module("sqlalchemy.engine").Engine
        self._event = import_module("sqlalchemy.event")

    def install(self) -> None:
        """Listen; a second call changes nothing."""
        if not self.on:
            self.on = True
            self._event.listen(self._target, self._EVENT, say_trace, retval=True)

    def remove(self) -> None:
        """Listen no longer."""
        if self.on:
            self.on = False
            self._event.remove(self._target, self._EVENT, say_trace)


def sqlalchemy_patches() -> list[Handoff]:
    """Engines, also those that exist already."""
    return [_Listener()]
