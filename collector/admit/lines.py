"""Record lines as they came -> lines that can be kept, and the refused ones by name. Pure.

Lines that `plain.py` vouches for pass as the bytes they are. The others get a closer look, one by one,
where they are mended or refused. What passes can always be indexed; a test holds both ways to that.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, Final

import msgspec

from collector.admit.fields import mended_fields, written
from collector.admit.limits import TIMESTAMP_NS_MAX, UID_CHARS_MAX, AdmitLimits
from collector.admit.notes import Close, Loss
from collector.admit.plain import UID, is_suspicious, odd_lines, written_ns
from collector.receive.lines import record_from_line
from tracing import semconv as sc
from tracing.errors import InvalidLine
from tracing.line import (
    LINE_BYTES_MAX,
    check,
    decode,
)

MESSAGE_CHARS_MAX: Final = 500  # of what a refusal says
_NOT_A_NUMBER: Final = re.compile(rb"[:,\[]\s*(?:NaN|-?Infinity)\b")


class RefusedLine(msgspec.Struct, frozen=True):
    """A line that was not taken. `offset` is that of its first byte, as the sender counts."""

    offset: int
    reason: str  # a word of `collector.admit.REFUSALS`
    field: str | None
    message: str

    @classmethod
    def of(cls, error: InvalidLine, offset: int) -> RefusedLine:
        """What the sender is told of an error."""
        message = str(error)
        if error.field is not None and error.field not in message:
            message = f"{error.field}: {message}"
        return cls(offset, error.reason, error.field, message[:MESSAGE_CHARS_MAX])


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """What a stretch of lines came to."""

    lines: bytes  # those that are kept, each with its newline
    count: int
    jumps: list[tuple[int, int]] = []  # as in `collector.wal.Envelope`
    refused: list[RefusedLine] = []
    mended: dict[str, int] = {}
    losses: list[Loss] = []
    close: Close | None = None
    first_written_ns: int = 0  # when the sender wrote the first and the last line; 0: cannot be known
    last_written_ns: int = 0


def admit_lines(data: bytes, *, offset: int = 0, named: bool = False, limits: AdmitLimits) -> Admitted:
    """Look at each line of a stretch.

    Args:
        data: whole lines, each with its newline.
        offset: of the first line, as the sender counts.
        named: each line must carry its `uid`.
        limits: bounds of one record.
    """
    odd = odd_lines(data, named)
    written = written_ns(data[: data.find(b"\n")]), written_ns(data[data.rfind(b"\n", 0, -1) + 1 : -1])
    if not odd:
        return Admitted(
            lines=data, count=data.count(b"\n"), first_written_ns=written[0], last_written_ns=written[1]
        )
    lines = data.split(b"\n")[:-1]
    kept: list[bytes] = []
    jumps: list[tuple[int, int]] = []
    refused: list[RefusedLine] = []
    mended: Counter[str] = Counter()
    losses: list[Loss] = []
    close: Close | None = None
    closer = _Closer(limits, named, mended)
    surplus = 0  # how much longer the lines were than what is kept of them, since the last kept one
    for index, line in enumerate(lines):
        keep: bytes | None = line
        if index in odd:
            try:
                keep, note = closer.look(line)
            except InvalidLine as error:
                refused.append(RefusedLine.of(error, offset))
                keep, note = None, None
            if isinstance(note, Loss):
                losses.append(note)
            elif isinstance(note, Close):
                close = note
        if keep is None:
            surplus += len(line) + 1
        else:
            if surplus:
                jumps.append((len(kept), surplus))
            surplus = len(line) - len(keep)
            kept.append(keep)
        offset += len(line) + 1
    return Admitted(
        lines=b"".join(line + b"\n" for line in kept),
        count=len(kept),
        jumps=jumps,
        refused=refused,
        mended=dict(+mended),
        losses=losses,
        close=close,
        first_written_ns=written[0],
        last_written_ns=written[1],
    )


class _Closer:
    """Mends or refuses single lines."""

    def __init__(self, limits: AdmitLimits, named: bool, mended: Counter[str]) -> None:
        self._limits = limits
        self._named = named
        self._mended = mended

    def look(self, line: bytes) -> tuple[bytes | None, Loss | Close | None]:
        """The line as it is kept (None: it is not a record), and what it tells the ledger.

        Raises:
            InvalidLine: the line is refused.
        """
        before = self._mended.total()
        fields = self._read(line)
        uid = fields.get("uid")
        if self._named and (not isinstance(uid, str) or not UID.fullmatch(uid)):
            raise InvalidLine(
                "missing_field" if uid is None else "bad_uid",
                f"uid: 1 to {UID_CHARS_MAX} printable characters are required, got {uid!r:.64}",
                field="uid",
            )
        kind = fields.get(sc.KIND)
        if kind == sc.KIND_CLOSE:
            return None, _close_of(fields)
        clean = mended_fields(fields, self._limits, self._mended)
        keep = line
        if self._mended.total() != before:
            keep = written(clean, self._mended)[:-1]
            if self._named:
                keep = keep[:-1] + b"," + msgspec.json.encode({"uid": uid})[1:]
        record_from_line(keep, uid="", resource={})  # what passes here can always be indexed
        return keep, _loss_of(fields) if kind == sc.KIND_LOSS else None

    def _read(self, line: bytes) -> dict[str, Any]:
        """The fields of a line, `timestamp` in nanoseconds.

        Lone surrogates, NaN and endless numbers are no JSON, but Python's reader takes them, and what it
        gives can be mended. It also keeps integers exact that others make floats of.
        """
        if len(line) <= LINE_BYTES_MAX and (is_suspicious(line) or _NOT_A_NUMBER.search(line)):
            try:
                fields = json.loads(line)
            except (ValueError, RecursionError):
                pass  # `decode` says what is wrong
            else:
                if isinstance(fields, dict):
                    check(fields)
                    return fields
        return decode(line)


def _loss_of(fields: dict[str, Any]) -> Loss:
    loss = fields.get(sc.LOSS) or {}
    reason, count, start, end = (loss.get(key) for key in ("reason", "count", "from", "to"))
    if not isinstance(reason, str) or count is None or not all(map(_is_count_or_none, (count, start, end))):
        raise InvalidLine(
            "bad_loss", f"a loss has a reason, a count, and counts from and to: {loss!r:.128}", field=sc.LOSS
        )
    return Loss(reason=reason[:64], count=count, start=start, end=end, written_ns=fields[sc.TIMESTAMP])


def _close_of(fields: dict[str, Any]) -> Close:
    close = fields.get(sc.CLOSE) or {}
    ended, end, count = (close.get(key) for key in ("ended", "end_offset", "count"))
    if not isinstance(ended, str) or not all(map(_is_count_or_none, (end, count))):
        raise InvalidLine(
            "bad_close", f"a close says how it ended, with counts: {close!r:.128}", field=sc.CLOSE
        )
    return Close(ended=ended[:64], end_offset=end, count=count)


def _is_count_or_none(value: Any) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return value is None or (is_integer and 0 <= value <= TIMESTAMP_NS_MAX)
