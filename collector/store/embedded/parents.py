"""Which service a span ran in, remembered for the children that arrive after it."""

from __future__ import annotations


class Parents:
    """The services of the last spans that were written, by the hash of their identity.

    Two generations: when the younger is full it becomes the older, and the one before is forgotten.
    That is as good as forgetting one by one, and costs one dictionary access.
    """

    def __init__(self, spans_max: int) -> None:
        self._generation_max = max(1, spans_max // 2)
        self._young: dict[int, str] = {}
        self._old: dict[int, str] = {}

    def remember(self, span: int, service: str) -> None:
        """Note the service of a span (`schema.span_hash`)."""
        if len(self._young) >= self._generation_max:
            self._old, self._young = self._young, {}
        self._young[span] = service

    def service_of(self, span: int) -> str | None:
        """The service of a span; `None` when it is not remembered."""
        return self._young.get(span) or self._old.get(span)
