"""What a record may be like, and the closed list of what is done about one that is not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tracing import line

# The line or record is not taken.
REFUSALS: Final = (*line.REASONS, "bad_uid", "bad_loss", "bad_close")

# It is taken after a change; each is counted under its word.
MENDS: Final = (
    "attributes_dropped",  # more than `attributes_max`
    "items_dropped",  # a list longer than `items_max`
    "events_dropped",
    "links_dropped",
    "key_cut",
    "text_cut",
    "line_shortened",  # a line longer than `tracing.line.LINE_BYTES_MAX`, though each value was short enough
    "nesting_cut",  # deeper than `depth_max`: the rest stands there as JSON text
    "integer_as_text",  # beyond 64 bits
    "not_a_number",  # NaN and infinities stand there as text: JSON has no word for them
    "bad_text",  # lone surrogates became "?"
    "bad_id_dropped",  # a log's id that is none
    "negative_duration",  # a span that ended before it began has length 0
    "time_missing",  # a record without a time has that of its arrival
    "redacted",
)

REASONS: Final = (*REFUSALS, *MENDS)

# Signed 64-bit nanoseconds, as the stores keep times: until 2262-04-11.
TIMESTAMP_NS_MAX: Final = 2**63 - 1
INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
UID_CHARS_MAX: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitLimits:
    """Bounds of one record. A record beyond them is mended, not refused.

    Raises:
        ValueError: a bound is smaller than what `collector.admit.lines` lets pass unseen.
    """

    attributes_max: int = 256  # OpenTelemetry's own default is 128 a span
    key_chars_max: int = 1_024
    text_chars_max: int = line.VALUE_CHARS_MAX
    stacktrace_chars_max: int = line.STACKTRACE_CHARS_MAX
    items_max: int = 1_024  # of one list
    depth_max: int = 8  # of containers in an attribute
    events_max: int = 1_024  # of one span; OpenTelemetry's own default is 128
    links_max: int = 1_024

    def __post_init__(self) -> None:
        lowest = {"attributes_max": 256, "key_chars_max": 1_024, "text_chars_max": 1_024, "depth_max": 4}
        for name in self.__dataclass_fields__:
            if getattr(self, name) < lowest.get(name, 1):
                raise ValueError(f"{name} must be at least {lowest.get(name, 1)}")
