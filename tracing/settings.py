"""`TRACING_*` and `OTEL_*` variables -> `Settings`, read once.

Our own variables are taken literally: a malformed value is a `ConfigurationError`, an unknown name one
warning with the name that was probably meant. OpenTelemetry's variables may have been set for somebody else
in the same process, so they are read with its own leniency: a value that it would not understand is one
warning, and the default stands.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self, get_type_hints
from urllib.parse import unquote, urlsplit

from tracing import semconv as sc
from tracing.errors import ConfigurationError
from tracing.sink import UNKNOWN_SERVICE

PREFIX: Final = "TRACING_"
EXPORTERS: Final = ("spool", "stdout", "file", "otlp", "none")
SAMPLERS: Final = (
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
)


# RFC 9110, sections 5.1 and 5.5; anything else would be refused with every single request.
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]*")


class TlsFiles(NamedTuple):
    """What a collector's certificate is checked by, and what is shown to it; PEM, all of them optional."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


NO_TLS_FILES: Final = TlsFiles()


class SettingsWarning(UserWarning):
    """A variable that looks like a setting and is none."""


class _WrongValue(ConfigurationError):
    """A field's value cannot be used; `said` follows the name by which whoever set it knows the field."""

    def __init__(self, field: str, said: str) -> None:
        super().__init__(f"{field}{said}")
        self.field = field
        self.said = said


def default_spool_dir(env: Mapping[str, str]) -> Path:
    """Where spools live unless told otherwise: the XDG state directory.

    Source: XDG Base Directory Specification 0.8, "XDG_STATE_HOME": data that should survive a restart but
    is not worth a backup, such as logs.
    """
    state = env.get("XDG_STATE_HOME", "")
    base = (
        Path(state) if state.startswith("/") else Path(env.get("HOME") or "~").expanduser() / ".local/state"
    )
    return base / "backtrail" / "spool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a program is traced. Every field is the variable `TRACING_<FIELD>`.

    Raises:
        ConfigurationError: a value cannot be used; the message names it and what would be accepted.
    """

    enabled: bool = True  # False: every call of the library does nothing
    service: str = UNKNOWN_SERVICE  # name of the program in traces
    # What else is to be known of the process: "key=value,key=value".
    resource_attributes: Mapping[str, str] = field(default_factory=dict)
    exporter: str = "spool"  # where lines go, one of EXPORTERS
    collector_url: str = "http://127.0.0.1:4318"  # where the spool is shipped to
    token: str | None = field(default=None, repr=False)  # bearer token for the collector
    ca_file: Path | None = None  # PEM, who may have signed the collector's certificate; None: the system's
    client_cert_file: Path | None = None  # PEM, shown to a collector that wants a certificate
    client_key_file: Path | None = None  # PEM, its key; None: in the same file
    # Where lines are kept until the collector has them; below the XDG state directory.
    spool_dir: Path = field(default_factory=lambda: default_spool_dir(os.environ))
    spool_mode: str = "write"  # or "mapped": quicker, where the file system is known to be good
    spool_fsync: str = "never"  # or "always": a record survives the loss of power too
    spool_bytes_max: int = 256 * 1024 * 1024  # of all processes of the service on this machine
    ship: bool = True  # False: lines stay in the spool until `backtrail agent` takes them
    export_file: Path | None = None  # for exporter "file"
    otlp_endpoint: str | None = None  # for exporter "otlp"; None: collector_url
    otlp_protocol: str | None = None  # "grpc" or "http"; None: gRPC on port 4317, else HTTP
    # With each request of exporter "otlp": how backends are told who sends, so never shown.
    otlp_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    capture_logs: bool = True  # every record of every logger, whatever its handlers
    level: str | None = None  # lowest level that is recorded; None: levels stay as the program set them
    # Formats of headers: these, b3, b3multi, jaeger, and what is registered with OpenTelemetry.
    propagators: tuple[str, ...] = ("tracecontext", "baggage", "x-trace-id")
    trust_remote_ids: bool = True  # False: ids of callers are kept as an attribute, never adopted
    instrument_exclude: tuple[str, ...] = ()  # libraries and hand-offs that `instrument()` leaves alone
    sql_comments: bool = False  # commands to databases say the trace in a comment, as sqlcommenter has it
    excluded_paths: tuple[str, ...] = ()  # regular expressions; requests to such paths get no span
    baggage_fields: tuple[str, ...] = ()  # bound fields that travel to the services we call
    sampler: str = "parentbased_always_on"  # drops spans only, one of SAMPLERS
    sampler_arg: float = 1.0  # share of traces, for the ratio samplers
    slow_span_s: float = 1.0  # a span that takes longer is written although it was not sampled
    redact: bool = True  # secrets are taken out before anything is written
    redact_keys: tuple[str, ...] = ()  # names whose values are secrets, in addition to the built-in ones
    redact_patterns: tuple[str, ...] = ()  # regular expressions; separated by white space
    redact_emails: bool = False  # e-mail addresses are secrets, too

    def __post_init__(self) -> None:
        _one_of("exporter", self.exporter, EXPORTERS)
        _one_of("sampler", self.sampler, SAMPLERS)
        _one_of("spool_mode", self.spool_mode, ("write", "mapped"))
        _one_of("spool_fsync", self.spool_fsync, ("never", "always"))
        if self.otlp_protocol is not None:
            _one_of("otlp_protocol", self.otlp_protocol, ("grpc", "http"))
        if not 0.0 <= self.sampler_arg <= 1.0:
            raise _WrongValue("sampler_arg", f"={self.sampler_arg}: a share in 0..1 was expected")
        if not self.slow_span_s >= 0.0:
            raise _WrongValue("slow_span_s", f"={self.slow_span_s}: 0 or more seconds were expected")
        if not self.service.strip():
            raise _WrongValue("service", ": a name was expected, got an empty one")
        if self.level is not None and sc.normal_level(self.level) is None:
            raise _WrongValue("level", f"={self.level!r}: such as DEBUG, INFO, WARNING or ERROR")
        for name, url in (("collector_url", self.collector_url), ("otlp_endpoint", self.otlp_endpoint)):
            if url is not None and not _is_url(url):
                raise _WrongValue(name, f"={url!r}: expected http://host:port or https://host:port")
        for name, value in self.otlp_headers.items():
            if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
                raise _WrongValue("otlp_headers", f": {name!r} is no header, or its value has odd characters")
        if self.exporter == "file" and self.export_file is None:
            raise _WrongValue(
                "exporter", "='file' needs export_file (TRACING_EXPORT_FILE), the path to write to"
            )
        for name, patterns in (
            ("redact_patterns", self.redact_patterns),
            ("excluded_paths", self.excluded_paths),
        ):
            for pattern in patterns:
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise _WrongValue(name, f": {pattern!r}: {error}") from None

    @property
    def tls_files(self) -> TlsFiles:
        """The files of a connection by `https://`."""
        return TlsFiles(self.ca_file, self.client_cert_file, self.client_key_file)

    @classmethod
    def from_env(cls, env: Mapping[str, str], **given: Any) -> Self:
        """Build from arguments, then `TRACING_<FIELD>`, then OpenTelemetry's variables, then defaults.

        Raises:
            ConfigurationError: names the variable or the argument, its value and what was expected.
        """
        hints = get_type_hints(cls)
        values, sources = _from_opentelemetry(env)
        values.setdefault("spool_dir", default_spool_dir(env))
        for name, text in env.items():
            if not name.startswith(PREFIX):
                continue
            key = name.removeprefix(PREFIX).lower()
            if key not in hints:
                _warn_unknown(name, [PREFIX + known.upper() for known in hints])
            elif text.strip():  # an empty variable is an unset one, as OpenTelemetry has it
                values[key], sources[key] = _parsed(name, text.strip(), hints[key]), name
        for key, value in given.items():
            if key not in hints:
                raise ConfigurationError(f"{key}: no such setting{_did_you_mean(key, list(hints))}")
            if value is not None:
                values[key], sources[key] = _taken(key, value, hints[key]), key
        try:
            return cls(**values)
        except _WrongValue as wrong:
            raise ConfigurationError(f"{sources.get(wrong.field, wrong.field)}{wrong.said}") from None


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise _WrongValue(name, f"={value!r}: expected one of {', '.join(choices)}")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


# ---------------------------------------------------------------- text -> value


def _boolean(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True}
    known |= {"false": False, "0": False, "no": False, "off": False}
    return known[text.lower()]


def _pairs(text: str) -> dict[str, str]:
    """`key=value,key=value`, percent-encoded, as OTEL_RESOURCE_ATTRIBUTES has it."""
    pairs = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise ValueError(item)
        pairs[unquote(key.strip())] = unquote(value.strip())
    return pairs


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, re.split(r"[\s,]+", text)))


# From a field's type to the reader of its text, and to what that reader expects.
_READERS: Final[dict[Any, tuple[Callable[[str], Any], str]]] = {
    bool: (_boolean, "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    str: (str, "text"),
    str | None: (str, "text"),
    Path: (lambda text: Path(text).expanduser(), "a path"),
    Path | None: (lambda text: Path(text).expanduser(), "a path"),
    tuple[str, ...]: (_names, "names separated by commas"),
    Mapping[str, str]: (_pairs, "key=value pairs separated by commas"),
}


_SECRET: Final = ("TOKEN", "OTLP_HEADERS")  # settings whose values are in no message


def _parsed(name: str, text: str, hint: Any) -> Any:
    read, expected = _READERS[hint]
    if name == f"{PREFIX}REDACT_PATTERNS":
        return tuple(text.split())  # commas belong to regular expressions
    try:
        return read(text)
    except (ValueError, KeyError):
        shown = "…" if name.upper().endswith(_SECRET) else text
        raise ConfigurationError(f"{name}={shown!r}: {expected} expected") from None


def _taken(key: str, value: Any, hint: Any) -> Any:
    """An argument of `configure()`: of the field's type, or text that reads as it."""
    if isinstance(value, str) and hint not in (str, str | None):
        return _parsed(key, value, hint)
    if hint == tuple[str, ...] and not isinstance(value, str):
        return tuple(value)
    if hint in (Path, Path | None):
        return Path(os.fspath(value)).expanduser()
    accepted: dict[Any, Any] = {bool: bool, int: int, float: (int, float), str: str, str | None: str}
    kinds = accepted.get(hint)
    if kinds is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool)):
        raise ConfigurationError(f"{key}={value!r}: {_READERS[hint][1]} expected")
    return value


# ---------------------------------------------------------------- OpenTelemetry's names


def _from_opentelemetry(env: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What OpenTelemetry's variables say, in our fields; and the variable that each field is from.

    Source: OpenTelemetry specification 1.40, "Environment Variable Specification".
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name, (key, read) in _OPENTELEMETRY.items():
        text = env.get(name, "").strip()
        if not text:
            continue
        try:
            values[key], sources[key] = read(text), name
        except (ValueError, KeyError):
            shown = "…" if name.endswith(_SECRET) else repr(text)
            warnings.warn(f"{name}={shown} was not understood and is left out", SettingsWarning, stacklevel=4)
    attributes = values.get("resource_attributes", {})
    if sc.SERVICE_NAME in attributes and "service" not in values:
        values["service"], sources["service"] = attributes[sc.SERVICE_NAME], "OTEL_RESOURCE_ATTRIBUTES"
    return values, sources


def _sampler(text: str) -> str:
    if text.lower() not in SAMPLERS:
        raise ValueError(text)
    return text.lower()


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(text)
    return value


def _url(text: str) -> str:
    if not _is_url(text):
        raise ValueError(text)
    return text.rstrip("/")


def _headers(text: str) -> dict[str, str]:
    found = _pairs(text)
    if not all(map(_HEADER_NAME.fullmatch, found)) or not all(map(_HEADER_VALUE.fullmatch, found.values())):
        raise ValueError(text)
    return found


def _otlp_protocol(text: str) -> str:
    # Over HTTP the backend chooses the encoding: JSON, or protobuf where it takes no JSON.
    return {"grpc": "grpc", "http/protobuf": "http", "http/json": "http"}[text.lower()]


def _otlp_propagators(text: str) -> tuple[str, ...]:
    names = _names(text)
    if "none" in names:
        return ()
    # X-Trace-ID is no propagator of OpenTelemetry's, so its list cannot name it; reading it harms nobody.
    return (*dict.fromkeys(names), "x-trace-id")


_OPENTELEMETRY: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "OTEL_SERVICE_NAME": ("service", str),
    "OTEL_RESOURCE_ATTRIBUTES": ("resource_attributes", _pairs),
    "OTEL_PROPAGATORS": ("propagators", _otlp_propagators),
    "OTEL_TRACES_SAMPLER": ("sampler", _sampler),
    "OTEL_TRACES_SAMPLER_ARG": ("sampler_arg", _share),
    "OTEL_SDK_DISABLED": ("enabled", lambda text: text.lower() != "true"),
    "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": ("instrument_exclude", _names),
    "OTEL_PYTHON_EXCLUDED_URLS": ("excluded_paths", _names),
    # An OTLP endpoint is the base of all signals; our collector serves OTLP and its own format on one port.
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("collector_url", _url),
    "OTEL_EXPORTER_OTLP_CERTIFICATE": ("ca_file", Path),
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": ("client_cert_file", Path),
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": ("client_key_file", Path),
    "OTEL_EXPORTER_OTLP_PROTOCOL": ("otlp_protocol", _otlp_protocol),
    "OTEL_EXPORTER_OTLP_HEADERS": ("otlp_headers", _headers),
}


# ---------------------------------------------------------------- names nobody knows


def _did_you_mean(name: str, known: list[str]) -> str:
    from difflib import get_close_matches  # only a typing error needs it

    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _warn_unknown(name: str, known: list[str]) -> None:
    warnings.warn(f"{name}: no such setting{_did_you_mean(name, known)}", SettingsWarning, stacklevel=4)
