"""highdicom's tables are read once and kept folded, and say what they said; a library without those names is left alone."""

from __future__ import annotations

import json
import pkgutil

import highdicom.base
import highdicom.image
import pytest
from highdicom import _standard_utils
from pydicom.uid import CTImageStorage, MRImageStorage, SegmentationStorage

from dicomnode.results.library_tables import _Answers, _Tables, ask_beforehand, forget_tables, keep_folded


def test_the_library_gets_its_own_tables_unfolded() -> None:
    whole = json.loads(pkgutil.get_data("highdicom", "_standard/module_attribute_map.json") or b"")
    for module in (_standard_utils, highdicom.base, highdicom.image):
        assert isinstance(module.get_module_attribute_map, _Tables)
    tables = _standard_utils.get_module_attribute_map()
    assert (list(tables), len(tables)) == (list(whole), len(whole))
    assert "patient" in tables
    assert "impatient" not in tables
    for name in ("patient", "general-study", "segmentation-multi-frame-functional-groups"):
        assert tables[name] == whole[name]
    assert tables["patient"] is tables["patient"]
    before = tables["patient"]
    forget_tables()
    assert tables["patient"] is not before
    assert tables["patient"] == before
    forget_tables()


def test_they_are_read_once() -> None:
    tables = _standard_utils.get_module_attribute_map
    assert tables() is tables()
    keep_folded()
    assert _standard_utils.get_module_attribute_map is tables
    assert tables._read.cache_info().currsize == 0, "as it was read, it is gone"


def test_what_was_asked_once_is_answered_without_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    ask_beforehand([str(CTImageStorage)])
    monkeypatch.setattr(_standard_utils, "get_module_attribute_map", lambda: pytest.fail("asked again"))
    assert _standard_utils.does_iod_have_pixel_data(CTImageStorage)
    assert highdicom.image.does_iod_have_pixel_data(SegmentationStorage)


def test_what_is_remembered_is_what_the_tables_say() -> None:
    asked = _standard_utils.is_attribute_in_iod
    assert isinstance(asked, _Answers)
    assert asked is highdicom.base.is_attribute_in_iod
    for uid in (CTImageStorage, MRImageStorage, SegmentationStorage):
        for keyword in ("PixelData", "NumberOfFrames", "ContentDate"):
            for without in (None, ["IconImageSequence"], ["SharedFunctionalGroupsSequence"]):
                assert [asked(keyword, uid, without) for _ in range(2)] == [asked._look(keyword, uid, without)] * 2
    forget_tables()


def test_a_class_that_the_library_does_not_know_is_left_to_it() -> None:
    ask_beforehand(["1.2.3"])
    for _ in range(2):
        with pytest.raises(KeyError):
            _standard_utils.is_attribute_in_iod("PixelData", "1.2.3")
    forget_tables()


def test_a_library_that_keeps_them_elsewhere_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_module_attribute_map", "is_attribute_in_iod"):
        monkeypatch.delattr(_standard_utils, name)
    keep_folded()
    forget_tables()
    ask_beforehand([str(CTImageStorage)])
    assert not hasattr(_standard_utils, "get_module_attribute_map")
    assert not hasattr(_standard_utils, "is_attribute_in_iod")
