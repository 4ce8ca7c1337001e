"""Where an exception came from, for whoever logs it after its span has ended.

A server, an executor or the interpreter itself logs what left the program's code when the spans around that
code are over, so the line would be in no trace: just the line that says why something crashed. Nothing is
put on the exception for this, since programs print and send what is on it; what is remembered is the link of
its traceback that was the outermost one when it left a span.

A link that was remembered and freed may lend its address to another one. The code and the instruction are
compared too, and an exception that was raised there has left the same span's block and was remembered anew.
"""

from __future__ import annotations

from types import CodeType
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.trace import format_span_id, format_trace_id

MARKS_MAX: Final = 64  # what has failed and was not logged yet; some per thread is plenty
LINKS_MAX: Final = (
    1000  # of one traceback that are looked at: Python's own default for the depth of its stack
)


class _Mark(NamedTuple):
    code: CodeType
    instruction: int
    trace_id: str
    span_id: str
    parent_span_id: str | None  # of the outermost span that the exception has left in this frame


_marks: Final[dict[int, _Mark]] = {}  # by the identity of the traceback's link, oldest first


def remember(span: trace.Span, error: BaseException) -> None:
    """Note that an exception is about to leave a span."""
    link = error.__traceback__
    context = span.get_span_context()
    if link is None or not context.is_valid:
        return
    code, instruction, parent = link.tb_frame.f_code, link.tb_lasti, _parent_span_id(span)
    span_id = format_span_id(context.span_id)
    mark = _marks.pop(id(link), None)
    if mark is not None and mark[:2] == (code, instruction) and mark.parent_span_id == span_id:
        # Two blocks in one frame: the inner one, which was left a moment ago, says more.
        mark = mark._replace(parent_span_id=parent)
    else:
        mark = _Mark(code, instruction, format_trace_id(context.trace_id), span_id, parent)
    _marks[id(link)] = mark
    while len(_marks) > MARKS_MAX:
        _marks.pop(next(iter(_marks)), None)


def origin(error: BaseException) -> tuple[str, str] | None:
    """Trace id and span id, in hex, of the innermost span that an exception has left; `None`: of none."""
    if not _marks:
        return None
    found, link = None, error.__traceback__
    for _ in range(LINKS_MAX):
        if link is None:
            break
        mark = _marks.get(id(link))
        if mark is not None and mark[:2] == (link.tb_frame.f_code, link.tb_lasti):
            found = mark.trace_id, mark.span_id
        link = link.tb_next
    return found


def _parent_span_id(span: Any) -> str | None:
    parent = getattr(span, "parent", None)
    return format_span_id(parent.span_id) if parent is not None else None
