"""Texts of codes as the console shows them: brackets are brackets, not markup."""

from __future__ import annotations

from rich.markup import escape

from dicomnode.errors import REASONS


def what_and_what_to_do(code: str) -> str:
    """What a code says and what to do next."""
    return escape(f"{REASONS[code].text}; {REASONS[code].advice}")


def what(code: str) -> str:
    """What a code says."""
    return escape(REASONS[code].text)
