"""What things are called in the cluster: streams, templates and the fields of a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from collector.model import Kind

# ---- fields of a document; those of OpenTelemetry's shape first ----
TIMESTAMP: Final = "@timestamp"
OBSERVED: Final = "observed_timestamp"
TRACE_ID: Final = "trace_id"
SPAN_ID: Final = "span_id"
PARENT_SPAN_ID: Final = "parent_span_id"
SEVERITY_TEXT: Final = "severity_text"
SEVERITY_NUMBER: Final = "severity_number"
BODY: Final = "body.text"
NAME: Final = "name"
SPAN_KIND: Final = "kind"
DURATION: Final = "duration"  # nanoseconds
STATUS_CODE: Final = "status.code"
SCOPE_NAME: Final = "scope.name"
SERVICE_NAME: Final = "service.name"
INSTANCE: Final = "service.instance.id"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
CODE_FILE: Final = "code.file.path"
CODE_LINE: Final = "code.line.number"
CODE_FUNCTION: Final = "code.function.name"
ATTRIBUTES: Final = "attributes"
RESOURCE_ATTRIBUTES: Final = "resource.attributes"
# ---- our own ----
UID: Final = "record_uid"
KIND: Final = "record_kind"
ERROR: Final = "record_error"
BUCKET: Final = "record_bucket"  # `durations.bucket_of` a span's duration
TERMS: Final = "record_terms"  # what attributes are found by; see `documents`
WORDS: Final = "record_words"  # tokens of a message that is not all ASCII
EXCEPTION_WORDS: Final = "record_exception_words"
LATE: Final = "record_late"  # orders what is beyond the last `TIMESTAMP`, which has an end in 2262
OVERFLOW: Final = "attributes_overflow"  # one `flattened` field for keys beyond the guard's limit

# First character of a term in `TERMS`.
ATTRIBUTE_TERM: Final = "a"  # as `embedded.terms` writes it
RESOURCE_TERM: Final = "r"  # the same for a resource's attribute
BEYOND_TERM: Final = "L"  # then the name of a field whose index does not hold all of its value


@dataclass(frozen=True, slots=True)
class Names:
    """The streams and templates of one dataset and namespace (Elastic's data stream naming scheme)."""

    dataset: str = "backtrail"
    namespace: str = "default"

    @property
    def logs(self) -> str:
        """Stream of log records."""
        return f"logs-{self.dataset}.otel-{self.namespace}"

    @property
    def spans(self) -> str:
        """Stream of spans."""
        return f"traces-{self.dataset}.otel-{self.namespace}"

    @property
    def notes(self) -> str:
        """Stream of what is kept and not counted: span starts and losses."""
        return f"notes-{self.dataset}.otel-{self.namespace}"

    @property
    def streams(self) -> tuple[str, str, str]:
        """All of them."""
        return self.logs, self.spans, self.notes

    def stream_of(self, kind: Kind) -> str:
        """Where a kind of record goes."""
        return self.logs if kind == "log" else self.spans if kind == "span" else self.notes

    def template_of(self, stream: str) -> str:
        """Name of a stream's index template; it serves every namespace."""
        return f"{stream.split('-', 1)[0]}-{self.dataset}.otel@backtrail"

    def pattern_of(self, stream: str) -> str:
        """What the template of a stream applies to."""
        return f"{stream.split('-', 1)[0]}-{self.dataset}.otel-*"

    def custom_of(self, stream: str) -> str:
        """The component template that belongs to the user; applied over ours, never touched."""
        return f"{stream.split('-', 1)[0]}-{self.dataset}.otel@custom"
