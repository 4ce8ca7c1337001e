"""The fields of a partition's index, and what is written into them for a record. Pure.

Time is kept twice: `order` for sorting and ranges; `minute` for counts per minute (tantivy's own
histogram rounds nanoseconds to the precision of a float, 256 ns today), and indexed, so that the
newest records are found without looking at all.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import tantivy

from collector.model import Record
from collector.store.codec import unpack
from collector.store.conditions import tokens
from collector.store.contract import MINUTE_NS
from collector.store.durations import bucket_of
from collector.store.embedded import terms as t

PROFILE: Final = "profile"  # number in the partition's dictionary
RESOURCE: Final = "resource"  # likewise
ORDER: Final = "order"  # timestamp_ns, clamped to 64 bits (the year 2262)
MINUTE: Final = "minute"  # of ORDER: whole minutes since 1970
SEQ: Final = "seq"
DURATION: Final = "duration"  # nanoseconds, clamped to 64 bits
BUCKET: Final = "bucket"  # `durations.bucket_of`, spans only
TRACE: Final = "trace"  # hash of the trace id: groups records without reading them
SPAN: Final = "span"  # hash of trace id and span id, of spans and span starts
PARENT: Final = "parent"  # hash of trace id and parent id, of spans whose parent was not known yet
TERMS: Final = "terms"  # see `terms.py`
MESSAGE: Final = "message"
EXCEPTION_MESSAGE: Final = "exception_message"
BODY: Final = "body"  # see `codec.py`

I64_MIN: Final = -(2**63)
I64_MAX: Final = 2**63 - 1
_TOKENIZER: Final = "words"

# Identities are hashed modulo a prime, so that they fit a number column: 2**-61 is the chance that
# two of them meet. The multiplier keeps small ids of tests and toys apart as well as random ones.
_PRIME: Final = 2**61 - 1
HASH_MAX: Final = _PRIME - 1
_MULTIPLIER: Final = 1_186_327_417_093_486_337


def _make_schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in (PROFILE, RESOURCE, MINUTE):
        builder.add_unsigned_field(name, indexed=True, fast=True)
    for name in (ORDER, DURATION):
        builder.add_integer_field(name, fast=True)
    for name in (SEQ, BUCKET, TRACE, SPAN, PARENT):
        builder.add_unsigned_field(name, fast=True)
    builder.add_text_field(TERMS, tokenizer_name="raw", index_option="basic")
    builder.add_text_field(MESSAGE, tokenizer_name=_TOKENIZER, index_option="position")
    builder.add_text_field(EXCEPTION_MESSAGE, tokenizer_name=_TOKENIZER, index_option="position")
    builder.add_bytes_field(BODY, stored=True)
    return builder.build()


SCHEMA: Final = _make_schema()


def open_index(path: str, *, create: bool = False) -> tantivy.Index:
    """Open the index in a directory, or make it.

    Raises:
        ValueError: it is not an index of this schema, or it cannot be read.
    """
    if not create and not tantivy.Index.exists(path):
        raise ValueError("no index is there")  # tantivy would make one
    index = tantivy.Index(SCHEMA, path)
    # Words are cut by `conditions.tokens`, so that both stores find the same; here they are only split.
    index.register_tokenizer(_TOKENIZER, tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build())
    return index


def minute_of(order: int) -> int:
    """The minute of a time (`order`); everything before 1970 is in the first."""
    return max(0, order) // MINUTE_NS


@lru_cache(maxsize=8192)  # the records of a trace come close together
def id_hash(text: str) -> int:
    """A trace or span id as a number below 2**61."""
    if len(text) == 32 or len(text) == 16:
        try:
            return int(text, 16) % _PRIME
        except ValueError:
            pass
    digest = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % _PRIME


def span_hash(trace_id: str, span_id: str) -> int:
    """A span's identity as a number below 2**61."""
    return (id_hash(trace_id) * _MULTIPLIER + id_hash(span_id)) % _PRIME


def clamped(value: int) -> int:
    """A number as its column holds it."""
    return I64_MIN if value < I64_MIN else I64_MAX if value > I64_MAX else value


# Of ASCII every character that is no part of a word becomes a blank; most messages need no more.
_BLANKS: Final = {code: " " for code in range(128) if not (chr(code).isalnum() or chr(code) == "_")}
_PLAIN_CHARS_MAX: Final = 256  # a longer text may hold a word that has to be cut


def words_of(text: str) -> str:
    """The words of a text as `conditions.tokens` cuts them, with blanks between."""
    if len(text) <= _PLAIN_CHARS_MAX and text.isascii():
        return text.lower().translate(_BLANKS)
    return " ".join(tokens(text))


def fields_of_record(
    record: Record, body: bytes, *, profile: int, resource: int, parent_unknown: bool
) -> dict[str, Any]:
    """What is written into the index for a record.

    Args:
        record, body: as `codec.pack` gives them.
        profile: number of its profile in the partition's dictionary.
        resource: number of its resource.
        parent_unknown: it is a span whose parent's service has to be looked up when calls are counted.
    """
    try:
        terms = t.attribute_terms(record.attributes) if record.attributes else []
    except TypeError:
        record = unpack(body, record.resource)
        terms = t.attribute_terms(record.attributes)
    terms.append(t.id_term(t.UID, record.uid))
    order = clamped(record.timestamp_ns)
    fields: dict[str, Any] = {
        PROFILE: profile,
        RESOURCE: resource,
        ORDER: order,
        MINUTE: minute_of(order),
        SEQ: record.seq,
        BODY: body,
        TERMS: terms,
    }
    trace_id, span_id = record.trace_id, record.span_id
    if trace_id is not None:
        terms.append(t.id_term(t.TRACE_ID, trace_id))
        fields[TRACE] = id_hash(trace_id)
    if span_id is not None:
        terms.append(t.id_term(t.SPAN_ID, span_id))
    if record.parent_span_id is not None:
        terms.append(t.id_term(t.PARENT_SPAN_ID, record.parent_span_id))
    if record.message is not None:
        fields[MESSAGE] = words_of(record.message)
    if record.exception is not None and record.exception.message is not None:
        fields[EXCEPTION_MESSAGE] = words_of(record.exception.message)
    if record.duration_ns is not None:
        fields[DURATION] = clamped(record.duration_ns)
    if record.kind == "span":
        fields[BUCKET] = bucket_of(record.duration_ns or 0)
    if trace_id is not None and span_id is not None and record.kind in ("span", "span_start"):
        fields[SPAN] = span_hash(trace_id, span_id)
        if parent_unknown and record.parent_span_id is not None:
            fields[PARENT] = span_hash(trace_id, record.parent_span_id)
    return fields
