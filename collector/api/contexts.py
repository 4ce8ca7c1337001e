"""Where the context was lost, for people and programs."""

from __future__ import annotations

from collector.api.context_shapes import (
    ContextLossesObject,
    ContextLossObject,
    LossExampleObject,
    ProbableParentObject,
)
from collector.api.shapes import JsonObject, plain
from collector.diagnose.ask import StatusOf
from collector.diagnose.contexts.ask import losses_of
from collector.diagnose.contexts.model import ContextLoss, LossExample
from collector.model import as_json
from collector.store.contract import Store
from tracing.line import format_timestamp


def context_losses(
    store: Store, start_ns: int, end_ns: int, *, now_ns: int, service: str | None, status_of: StatusOf | None
) -> JsonObject:
    """Every place at which the context was lost in a half-open interval.

    Args:
        service: only places in it, and those whose probable parent is.
        status_of: what the ledger knows of a trace's processes.
    """
    asked = losses_of(store, start_ns, end_ns, now_ns=now_ns, status_of=status_of)
    wanted = [loss for loss in asked.losses if service is None or service in _services(loss)]
    return plain(
        ContextLossesObject(
            start=format_timestamp(start_ns),
            end=format_timestamp(end_ns),
            traces=asked.traces,
            loose_lines=asked.loose_lines,
            is_whole=asked.is_whole,
            losses=[_loss(loss) for loss in wanted],
        )
    )


def _services(loss: ContextLoss) -> set[str]:
    return {loss.service, loss.parent.service}


def _loss(loss: ContextLoss) -> ContextLossObject:
    return ContextLossObject(
        kind=loss.kind,
        service=loss.service,
        operation=loss.operation,
        logger=loss.logger,
        source=loss.source,
        hop=loss.hop,
        count=loss.count,
        seen=loss.seen,
        summary=loss.summary,
        parent=ProbableParentObject(**as_json(loss.parent)),
        inferred=True,
        confidence=loss.confidence,
        advice=loss.advice,
        examples=[_example(example) for example in loss.examples],
    )


def _example(example: LossExample) -> LossExampleObject:
    return LossExampleObject(
        uid=example.uid,
        timestamp=format_timestamp(example.timestamp_ns),
        trace_id=example.trace_id,
        span_id=example.span_id,
        quote=example.quote,
    )
