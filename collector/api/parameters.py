"""Query and path parameters: declared once, read and documented from the same declaration. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec

from collector.errors import CollectorError
from collector.settings import did_you_mean

Body = TypeVar("Body", bound=msgspec.Struct)
Kind = Literal["text", "integer", "boolean", "time", "duration", "trace_id"]

# The longest text one parameter may have: a query that a person typed is far below.
TEXT_CHARS_MAX: Final = 4_096

# 32 hexadecimal digits, perhaps with a UUID's dashes.
_TRACE_ID: Final = "^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$"
_BOOLEANS: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class InvalidParameter(CollectorError):
    """Some parameters cannot be understood.

    Attributes:
        errors: one `{"parameter", "message"}` each.
    """

    def __init__(self, errors: Sequence[Mapping[str, str]]) -> None:
        super().__init__("; ".join(f"{error['parameter']}: {error['message']}" for error in errors))
        self.errors = list(errors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of one operation."""

    name: str
    kind: Kind
    description: str
    example: Any = None
    place: Literal["query", "path"] = "query"
    minimum: int | None = None
    maximum: int | None = None
    default: Any = None
    choices: tuple[str, ...] = field(default=())
    required: bool = False

    def read(self, text: str) -> Any:
        """The value a text means.

        Raises:
            ValueError: it means none; the message says what was expected.
        """
        if len(text) > TEXT_CHARS_MAX:
            raise ValueError(f"{len(text)} characters, at most {TEXT_CHARS_MAX} are read")
        if self.choices and text not in self.choices:
            raise ValueError(f"{text!r:.80} is none of {', '.join(self.choices)}")
        if self.kind == "integer":
            return self._integer(text)
        if self.kind == "boolean":
            try:
                return _BOOLEANS[text.lower()]
            except KeyError:
                raise ValueError(f"{text!r:.80} is neither true nor false") from None
        return text

    def schema(self) -> dict[str, Any]:
        """The JSON schema of the value, for OpenAPI."""
        schema: dict[str, Any] = {"type": self.kind if self.kind in ("integer", "boolean") else "string"}
        if schema["type"] == "string":
            schema["maxLength"] = TEXT_CHARS_MAX
        if self.kind == "trace_id":
            schema |= {"pattern": _TRACE_ID, "maxLength": 36}
        if self.choices:
            schema["enum"] = list(self.choices)
        for key in ("minimum", "maximum", "default"):
            value = getattr(self, key)
            if value is not None:
                schema[key] = value
        return schema

    def _integer(self, text: str) -> int:
        if not text.removeprefix("-").isdecimal() or not text.isascii():
            raise ValueError(f"{text!r:.80} is not a whole number")
        value = int(text)
        low = self.minimum if self.minimum is not None else value
        high = self.maximum if self.maximum is not None else value
        if not low <= value <= high:
            raise ValueError(f"{value} is not in {low}..{high}")
        return value


def read_path(declared: Sequence[Parameter], given: Mapping[str, str]) -> dict[str, Any]:
    """Read the parameters in the path of a request.

    Raises:
        InvalidParameter: with every trouble at once.
    """
    values: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for parameter in declared:
        if parameter.place == "path":
            try:
                values[parameter.name] = parameter.read(given[parameter.name])
            except ValueError as error:
                errors.append({"parameter": parameter.name, "message": str(error)})
    if errors:
        raise InvalidParameter(errors)
    return values


def read_query(declared: Sequence[Parameter], given: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read the query parameters of a request.

    A parameter that nobody knows is refused rather than passed over: `limt=5` that is silently ignored
    gives a wrong answer that looks right.

    Args:
        declared: what the operation knows.
        given: name and text, in the order of the request.
    Raises:
        InvalidParameter: with every trouble at once.
    """
    known = {parameter.name: parameter for parameter in declared if parameter.place == "query"}
    values: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    for name, text in given:
        parameter = known.get(name)
        if parameter is None:
            hint = did_you_mean(name, known) or f"; known are {', '.join(sorted(known)) or 'none'}"
            errors.append({"parameter": name[:80], "message": f"no such parameter{hint}"})
        elif name in values:
            errors.append({"parameter": name, "message": "given twice"})
        else:
            try:
                values[name] = parameter.read(text)
            except ValueError as error:
                values[name] = None
                errors.append({"parameter": name, "message": str(error)})
    errors += [
        {"parameter": name, "message": "is required"}
        for name, parameter in known.items()
        if parameter.required and name not in values
    ]
    if errors:
        raise InvalidParameter(errors)
    return values


def read_body(declared: type[Body], body: bytes) -> Body:
    """Read the JSON object in a request's body; an empty body is an empty object.

    Raises:
        InvalidParameter: it is none, or has other keys or values than declared.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=declared)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidParameter([{"parameter": "body", "message": str(error)}]) from None
