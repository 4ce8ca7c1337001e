"""Root causes for people and programs: of a trace, of a stretch of time, and how they were come by."""

from __future__ import annotations

from collector.api import views
from collector.api.shapes import JsonObject, plain
from collector.diagnose.ask import StatusOf, judged_trace, judged_window
from collector.diagnose.engine import Judgement
from collector.diagnose.explain import explain as explained
from collector.model import Measure
from collector.store.conditions import Condition
from collector.store.contract import EVERYTHING, Store
from collector.watch import Measures


class CauseAnswers:
    """Asks the diagnosis, with the baseline that fits the question.

    Args:
        status_of: what the ledger knows of a trace's processes.
        measures: baselines that are there already.
    """

    def __init__(
        self, store: Store, *, status_of: StatusOf | None = None, measures: Measures | None = None
    ) -> None:
        self._store = store
        self._status_of = status_of
        self._measures = measures

    def of_trace(self, trace_id: str, *, explain: bool = False) -> JsonObject:
        """What caused the fault of a trace.

        Args:
            explain: say how it was come by, too.
        Raises:
            NotFound: nothing is stored under the trace id.
        """
        judgement = judged_trace(
            self._store,
            trace_id,
            status_of=self._status_of,
            baseline_of=self._measures.for_trace if self._measures is not None else None,
            source=self._source,
        )
        return _answer(judgement, explain=explain)

    def of_window(
        self,
        start_ns: int,
        end_ns: int,
        *,
        condition: Condition = EVERYTHING,
        measure: Condition = EVERYTHING,
        explain: bool = False,
    ) -> JsonObject:
        """What caused the fault of a stretch of time; conditions as `judged_window` has them."""
        is_part = condition != EVERYTHING or measure != EVERYTHING  # of it the baseline knows nothing apart
        known = None if is_part or self._measures is None else self._measures.for_window(start_ns)
        judgement = judged_window(
            self._store,
            start_ns,
            end_ns,
            condition=condition,
            measure=measure,
            baseline=known,
            source=self._source,
        )
        return _answer(judgement, explain=explain)

    @property
    def _source(self) -> Measure:
        return self._measures.source if self._measures is not None else "given_baseline"


def _answer(judgement: Judgement, *, explain: bool) -> JsonObject:
    explanation = explained(judgement) if explain else None
    return plain(views.verdict_view(judgement.verdict, explanation))
