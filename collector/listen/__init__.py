"""Listeners beside HTTP: each hands what it hears to the intake, and decides nothing itself."""

from __future__ import annotations
