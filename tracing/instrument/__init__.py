"""Turns on what is installed: OpenTelemetry's instrumentations for clients and servers, and our hand-offs."""

from __future__ import annotations


def instrument(*names: str, exclude: tuple[str, ...] = ()) -> list[str]:
    """x"""
    return []


def uninstrument() -> None:
    """x"""
