"""highdicom's tables are let go of, and read again when they are needed; a library without that name is left alone."""

from __future__ import annotations

import pytest
from highdicom import _standard_utils

from dicomnode.results.library_tables import forget_tables


def test_the_tables_are_gone_and_come_back() -> None:
    tables = _standard_utils.get_module_attribute_map
    whole = tables()
    assert tables.cache_info().currsize == 1
    forget_tables()
    assert tables.cache_info().currsize == 0
    assert tables() == whole


def test_a_library_that_keeps_them_elsewhere_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten = []
    monkeypatch.setattr(_standard_utils, "get_module_attribute_map", lambda: forgotten.append(1))
    forget_tables()
    monkeypatch.delattr(_standard_utils, "get_module_attribute_map")
    forget_tables()
    assert forgotten == []
