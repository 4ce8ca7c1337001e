"""Attribute keys and line keys, spelled once. Names are OpenTelemetry's where it has one.

Source: OpenTelemetry semantic conventions 1.37 (resource, code, exception, http, rpc, messaging).
"""

from __future__ import annotations

from typing import Final

# ---- keys of a record line, in the order they are written (ARCHITECTURE.md, "Record line") ----
TIMESTAMP: Final = "timestamp"
LEVEL: Final = "level"
SERVICE: Final = "service"
TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
MESSAGE: Final = "message"
KIND: Final = "kind"
LOGGER: Final = "logger"
ATTRIBUTES: Final = "attributes"
EXCEPTION: Final = "exception"
SOURCE: Final = "source"
TRACE_FLAGS: Final = "trace_flags"
NAME: Final = "name"
SPAN_KIND: Final = "span_kind"
PARENT_SPAN_ID: Final = "parent_span_id"
DURATION_NS: Final = "duration_ns"
STATUS: Final = "status"
EVENTS: Final = "events"
LINKS: Final = "links"
LOSS: Final = "loss"
CLOSE: Final = "close"
RESOURCE: Final = "resource"

# ---- kinds of a line; a log record has none ----
KIND_SPAN: Final = "span"
KIND_SPAN_START: Final = "span_start"
KIND_LOSS: Final = "loss"
KIND_CLOSE: Final = "close"

# ---- severity: OpenTelemetry's short names and their numbers (logs data model, "SeverityNumber") ----
SEVERITY_NUMBERS: Final[dict[str, int]] = {
    f"{base}{step or ''}": first + (step - 1 if step else 0)
    for base, first in (("TRACE", 1), ("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17), ("FATAL", 21))
    for step in (0, 2, 3, 4)
}
# Spellings that other loggers use; accepted on input, never written.
SEVERITY_ALIASES: Final[dict[str, str]] = {
    "WARNING": "WARN",
    "CRITICAL": "FATAL",
    "EMERGENCY": "FATAL",
    "ALERT": "FATAL",
    "ERR": "ERROR",
    "SEVERE": "ERROR",
    "NOTICE": "INFO2",
    "INFORMATION": "INFO",
    "VERBOSE": "TRACE",
    "FINE": "DEBUG",
    "NOTSET": "TRACE",
}
SEVERITY_ERROR: Final = 17  # this number and everything above it is an error

SPAN_KINDS: Final = ("INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUS_CODES: Final = ("UNSET", "OK", "ERROR")

# ---- resource attributes ----
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
SERVICE_NAMESPACE: Final = "service.namespace"
SERVICE_INSTANCE_ID: Final = "service.instance.id"
DEPLOYMENT_ENVIRONMENT: Final = "deployment.environment.name"
HOST_NAME: Final = "host.name"
PROCESS_PID: Final = "process.pid"
PROCESS_COMMAND: Final = "process.command"
TELEMETRY_SDK_NAME: Final = "telemetry.sdk.name"
TELEMETRY_SDK_VERSION: Final = "telemetry.sdk.version"
TELEMETRY_SDK_LANGUAGE: Final = "telemetry.sdk.language"

# ---- exception and code ----
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"
EXCEPTION_EVENT: Final = "exception"
CODE_FUNCTION: Final = "code.function.name"
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"

# ---- what the diagnosis reads of clients and servers ----
HTTP_REQUEST_METHOD: Final = "http.request.method"
HTTP_RESPONSE_STATUS_CODE: Final = "http.response.status_code"
HTTP_ROUTE: Final = "http.route"
RPC_GRPC_STATUS_CODE: Final = "rpc.grpc.status_code"
SERVER_ADDRESS: Final = "server.address"
MESSAGING_SYSTEM: Final = "messaging.system"
MESSAGING_DESTINATION: Final = "messaging.destination.name"

# ---- events: log records that say what happened by a name (logs data model, "Events") ----
EVENT_NAME: Final = "event.name"
CHANGE_EVENT: Final = "backtrail.change"  # somebody changed something on purpose
CHANGE_KIND: Final = "change.kind"  # deployment, config, flag, ...
CHANGE_NAME: Final = "change.name"  # what was changed
CHANGE_OLD: Final = "change.old_value"
CHANGE_NEW: Final = "change.new_value"
CHANGE_SERVICE: Final = "change.service"  # whom it concerns, where that is not who says so; `*`: everybody

# ---- our own ----
LEVEL_NAME: Final = "log.level.name"  # what the program called a level that OpenTelemetry has no name for
CORRELATION_ID: Final = "correlation.id"  # an X-Trace-ID that cannot be a trace id


def severity_number(level: str) -> int:
    """Return OpenTelemetry's severity number, 1..24, of a level's name; 9 (INFO) for an unknown one."""
    name = level.upper()
    return SEVERITY_NUMBERS.get(SEVERITY_ALIASES.get(name, name), 9)


def normal_level(level: str) -> str | None:
    """Return the name we write for a level's name, `None` when nobody uses such a name."""
    name = level.strip().upper()
    name = SEVERITY_ALIASES.get(name, name)
    return name if name in SEVERITY_NUMBERS else None
