"""Intake: what stands between a request and the write-ahead log."""

from __future__ import annotations

from collector.intake.answers import ForeignAnswer, IngestAnswer, OtlpAnswer
from collector.intake.intake import Intake
from collector.intake.limits import IntakeLimits
from collector.intake.open import open_log
from collector.intake.placed import Placed

__all__ = ["ForeignAnswer", "IngestAnswer", "Intake", "IntakeLimits", "OtlpAnswer", "Placed", "open_log"]
