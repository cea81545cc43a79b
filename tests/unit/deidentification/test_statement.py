"""The statement of PS3.15 E.1.3 is the one that the tables give."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_the_statement_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "deploy" / "deidentification_statement.py"))
    page = made["PATH"].read_text("utf-8")
    assert page.count(made["START"]) == 1
    assert page == made["render"](page), "make statement"
