"""Log templates with their counts and how those change over a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from collector.api import shapes
from collector.api.pages import newest_pages
from collector.model import Record
from collector.store.conditions import And, Condition, Equals
from collector.store.contract import Store
from collector.templates import Template, TemplateMiner
from tracing.line import format_timestamp

READ_RECORDS_MAX: Final = 50_000  # newest logs that one answer reads; about two seconds of work
SLICES: Final = 12
_PAGE_RECORDS: Final = 5_000
_LOGS: Final = Equals("kind", "log")


def templates(
    store: Store,
    condition: Condition,
    start_ns: int,
    end_ns: int,
    *,
    limit: int,
    read_records_max: int = READ_RECORDS_MAX,
) -> shapes.TemplatesObject:
    """The templates of the logs that fulfil a condition, most frequent first.

    Of more logs than may be read the newest are taken, and the time that is answered for is shortened
    to what they cover, so that counts and trend stay true.

    Args:
        limit: templates in the answer.
        read_records_max: logs that are read.
    """
    pages = newest_pages(
        store,
        And((_LOGS, condition)),
        start_ns=start_ns,
        end_ns=end_ns,
        limit=read_records_max + 1,
        page_records_max=_PAGE_RECORDS,
    )
    logs = [log for page in pages for log in page]
    truncated = len(logs) > read_records_max
    if truncated:
        logs = logs[:read_records_max]
        start_ns = logs[-1].timestamp_ns
    found = _TemplateCounts(start_ns, end_ns)
    miner = TemplateMiner()
    known = miner.add_all((log.message or "", log.logger or "") for log in logs)
    for log, template in zip(logs, known, strict=True):
        found.add(template, log)
    ranked = found.ranked()
    return shapes.TemplatesObject(
        start=format_timestamp(start_ns),
        end=format_timestamp(end_ns),
        slices=SLICES,
        read=len(logs),
        truncated=truncated,
        found=len(ranked),
        templates=ranked[:limit],
    )


class _TemplateCounts:
    """Logs by template; they come newest first."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._start_ns = start_ns
        self._slice_ns = max(1, -(-(end_ns - start_ns) // SLICES))
        self._logs: dict[str, list[Record]] = {}
        self._templates: dict[str, Template] = {}

    def add(self, template: Template, log: Record) -> None:
        self._templates[template.template_id] = template
        self._logs.setdefault(template.template_id, []).append(log)

    def ranked(self) -> list[shapes.TemplateObject]:
        """By count, then by text."""
        shown = [self._shown(template, self._logs[key]) for key, template in self._templates.items()]
        return sorted(shown, key=lambda one: (-one.count, one.text, one.template_id))

    def _shown(self, template: Template, logs: Sequence[Record]) -> shapes.TemplateObject:
        trend = [0] * SLICES
        for log in logs:
            trend[(log.timestamp_ns - self._start_ns) // self._slice_ns] += 1
        services = Counter(log.service for log in logs)
        return shapes.TemplateObject(
            template_id=template.template_id,
            text=template.text,
            logger=template.group or None,
            services=sorted(services, key=lambda service: (-services[service], service)),
            level=max(logs, key=lambda log: log.severity_number).level,
            count=len(logs),
            trend=trend,
            first=format_timestamp(logs[-1].timestamp_ns),
            last=format_timestamp(logs[0].timestamp_ns),
            example=logs[0].message or "",
            trace_id=next((log.trace_id for log in logs if log.trace_id), None),
        )
