"""What the senders are told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import msgspec
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from collector.admit import MESSAGE_CHARS_MAX, Admitted, RefusedLine
from tracing.errors import InvalidLine

REFUSED_LISTED_MAX: Final = 1_000  # lines that one answer names; `refused_count` counts them all


class IngestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request to `/v1/records`."""

    acknowledged_offset: int | None  # first byte that is not yet durable; None: an import has no offsets
    stored: int  # lines that are durable now and were not before
    already_stored: int = 0  # imported lines that searches found before; not among `stored`
    refused: list[RefusedLine] = []  # the first `REFUSED_LISTED_MAX`; they count as done
    refused_count: int = 0

    def body(self) -> bytes:
        """The JSON text."""
        return _answers.encode(self)


_answers: Final = msgspec.json.Encoder()


def ingest_answer(
    looked_at: list[Admitted], acknowledged_offset: int | None, *, already_stored: int = 0
) -> IngestAnswer:
    """Add up what several stretches of one request came to.

    Args:
        already_stored: how many of the admitted lines were there before.
    """
    refused = [line for admitted in looked_at for line in admitted.refused]
    return IngestAnswer(
        acknowledged_offset=acknowledged_offset,
        stored=sum(admitted.count for admitted in looked_at) - already_stored,
        already_stored=already_stored,
        refused=refused[:REFUSED_LISTED_MAX],
        refused_count=len(refused),
    )


@dataclass(slots=True)
class ForeignAnswer:
    """What became of the records of a foreign request."""

    stored: int = 0  # durable now, and not before
    repeated: int = 0  # durable before: the sender repeated itself
    refused: list[RefusedLine] = field(default_factory=list)  # the first ones; `offset` is the index
    refused_count: int = 0
    listed_max: int = REFUSED_LISTED_MAX

    def refuse(self, index: int, error: InvalidLine) -> None:
        """Name a record that was not taken."""
        self.refused_count += 1
        if len(self.refused) < self.listed_max:
            self.refused.append(RefusedLine.of(error, index))

    def summary(self) -> str:
        """The refusals in one line, for protocols that have room for no more; empty without any."""
        if not self.refused:
            return ""
        named = "; ".join(f"record {one.offset}: {one.reason}: {one.message}" for one in self.refused[:3])
        return f"{self.refused_count} refused: {named}"[:MESSAGE_CHARS_MAX]


class OtlpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an OTLP request that was taken, at least in part; its HTTP status is 200."""

    content_type: str
    body: bytes
    stored: int
    refused_count: int

    @classmethod
    def of(cls, message: Message, content_type: str, taken: ForeignAnswer) -> OtlpAnswer:
        """Write the answer in the encoding of the request."""
        if content_type == "application/json":
            body: bytes = MessageToJson(message, indent=None).encode()
        else:
            body = message.SerializeToString()
        return cls(
            content_type=content_type, body=body, stored=taken.stored, refused_count=taken.refused_count
        )
