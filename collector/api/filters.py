"""The filters that questions share, named once for `Answers` and its clients."""

from __future__ import annotations

from typing import TypedDict


class DeploymentFilters(TypedDict, total=False):
    """Which deployment a record comes from; absent or `None`: from any."""

    environment: str | None  # `deployment.environment.name`, or `deployment.environment` as it was called
    version: str | None  # `service.version`


class OriginFilters(DeploymentFilters, total=False):
    """Where a record comes from."""

    service: str | None


class RecordFilters(OriginFilters, total=False):
    """What a record must be besides."""

    level: str | None  # this level or above
    trace_id: str | None
