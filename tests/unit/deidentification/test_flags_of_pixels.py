"""Burned In Annotation (0028,0301) and Recognizable Visual Features (0028,0302): no NO that nobody has seen to be true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier, Seen
from dicomnode.deidentification.explain import explain
from dicomnode.deidentification.policy import AI, EXPORT, Faces, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.reader import Picture, Reader, Text
from tests.unit.deidentification import planted
from tests.unit.deidentification.pictures import Silent, capture, drawn

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
ENHANCED, BREAST, ULTRASOUND = (f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2.1", "1.2", "3.1"))


class Doubtful:
    """A reader that points at something as often as it is asked, of which nobody knows whether it is text."""

    def __init__(self, certain: float, high: int = 200, says: str = "") -> None:
        self.found = [Text(box=(10, 10, 30, 10 + high), says=says, score=0.1, certain=certain)]

    def read(self, picture: Picture) -> list[Text]:
        return self.found


def flags(
    ds: Dataset, policy: Policy, seen: Seen = Seen.UNKNOWN, reader: Reader | None = None
) -> tuple[str | None, str | None]:
    done = Deidentifier(policy, PSEUDONYMS, reader=reader).deidentify(ds, seen).dataset
    return done.get("BurnedInAnnotation"), done.get("RecognizableVisualFeatures")


def flagged(burned: str, recognizable: str = "", sop_class: str = planted.CT) -> Dataset:
    ds = planted.slice_of_ct()
    ds.SOPClassUID = sop_class
    ds.BurnedInAnnotation = burned
    if recognizable:
        ds.RecognizableVisualFeatures = recognizable
    return ds


def test_what_nobody_looked_at_is_not_said_to_be_clean() -> None:
    assert flags(flagged("NO", "NO"), AI) == (None, None)


def test_what_the_search_confirms_stays() -> None:
    assert flags(flagged("NO", "NO"), EXPORT) == ("NO", None)


def test_nothing_is_said_where_the_source_said_nothing() -> None:
    ds = flagged("NO")
    del ds.BurnedInAnnotation
    assert flags(ds, EXPORT) == flags(ds, AI) == (None, None)


@pytest.mark.parametrize("sop_class", [ENHANCED, BREAST])
def test_what_a_class_requires_stays_as_it_came(sop_class: str) -> None:
    assert flags(flagged("NO", "NO", sop_class), AI) == ("NO", None)


@pytest.mark.parametrize("policy", [AI, EXPORT])
def test_of_pixels_that_are_elsewhere_nobody_says_that_they_are_clean(policy: Policy) -> None:
    ds = flagged("NO", "NO")
    del ds.PixelData
    assert flags(ds, policy) == (None, None)


def test_a_warning_stays() -> None:
    ds = flagged("YES", "YES")
    del ds.PixelData
    assert flags(ds, AI) == ("YES", "YES")


def test_a_series_without_a_head_may_say_so() -> None:
    policy = replace(EXPORT, faces=Faces.DEFACE)
    assert flags(flagged("NO", "NO"), policy, Seen.NO_HEAD) == ("NO", "NO")
    assert flags(flagged("NO"), policy, Seen.NO_HEAD) == ("NO", None)
    assert flags(flagged("NO", "YES"), replace(policy, withhold_recognizable=False), Seen.TAKEN_OFF) == ("NO", "NO")


@pytest.mark.parametrize("reader", [Doubtful(0.3), Doubtful(0.8, says="~")], ids=["uncertain", "large"])
@pytest.mark.parametrize("said", ["YES", "NO"])
def test_what_was_read_is_not_clean_while_doubtful_boxes_stay(reader: Doubtful, said: str) -> None:
    ds = capture([drawn("")])
    ds.BurnedInAnnotation = said
    assert flags(ds, EXPORT, reader=reader) == (None, None)


@pytest.mark.parametrize(("frames", "flag"), [(12, "NO"), (13, None)])
def test_of_many_frames_of_which_some_are_read_nobody_says_that_all_are_clean(frames: int, flag: str | None) -> None:
    ds = capture([drawn("")[:64, :64]] * frames)
    ds.BurnedInAnnotation = "NO"
    assert flags(ds, EXPORT, reader=Silent()) == (flag, None)
    ds.SOPClassUID, ds.Modality, ds.ImageType = planted.CT, "CT", ["DERIVED", "SECONDARY"]  # searched, not read
    del ds.ConversionType
    assert flags(ds, EXPORT) == (flag, None)


def test_what_looks_like_a_line_is_blanked_until_nobody_looks_again() -> None:
    ds = capture([drawn("")])
    ds.BurnedInAnnotation = "YES"
    assert flags(ds, EXPORT, reader=Doubtful(0.7, high=20)) == (None, None)


def in_colour(values: NDArray[np.float64]) -> Dataset:
    """Secondary Capture of red, green and blue, shape (rows, columns, 3)."""
    ds = capture([np.zeros(values.shape[:2], np.uint8)])
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.PixelData = np.rint(values).astype(np.uint8).tobytes()
    return ds


SMOOTH = drawn("").astype(np.float64)
LETTERS = (drawn() > drawn("")).astype(np.float64)
NOISE = np.random.default_rng(3).normal(0, 4, SMOOTH.shape)


def colours(strength: float, sample: int) -> Dataset:
    shown = np.stack([SMOOTH] * 3, axis=-1)
    shown[..., sample] += strength * LETTERS
    return in_colour(shown)


def palette(shown: NDArray[np.float64], brightness: NDArray[np.int64]) -> Dataset:
    ds = capture([shown.astype(np.uint8)], "PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(ds, f"{colour}PaletteColorLookupTableData", (brightness << 8).astype("<u2").tobytes())
    return ds


@pytest.mark.parametrize(
    "ds",
    [
        capture([(SMOOTH + NOISE + 4 * LETTERS).astype(np.uint8)]),
        *(colours(3, sample) for sample in range(3)),
        palette(SMOOTH * 0 + 100 + LETTERS, np.arange(256) // 2 * 2),
    ],
    ids=["in noise", "red", "green", "blue", "two indices of one colour"],
)
def test_letters_that_a_reader_does_not_see_are_not_said_to_be_none(ds: Dataset) -> None:
    assert flags(ds, EXPORT, reader=Silent()) == (None, None)


@pytest.mark.parametrize(
    "ds",
    [
        capture([SMOOTH.astype(np.uint8)]),
        in_colour(np.stack([SMOOTH, SMOOTH * 0.8, SMOOTH * 0.4 + 20], axis=-1)),
        palette(SMOOTH, np.arange(256)),
    ],
    ids=["grey", "colours", "palette"],
)
def test_what_is_smooth_shows_all(ds: Dataset) -> None:
    assert flags(ds, EXPORT, reader=Silent()) == ("NO", None)


def test_doubts_of_a_required_flag_leave_it_as_it_came() -> None:
    ds = capture([drawn("")])
    ds.SOPClassUID, ds.Modality, ds.BurnedInAnnotation = BREAST, "MG", "NO"
    assert flags(ds, EXPORT, reader=Doubtful(0.3)) == ("NO", None)


def test_the_explanation_says_why() -> None:
    source = flagged("NO", "NO")
    output = Deidentifier(AI, PSEUDONYMS).deidentify(source).dataset
    told = {one.keyword: one for one in explain(source, output, AI, planted.CT)}
    for keyword in ("BurnedInAnnotation", "RecognizableVisualFeatures"):
        assert (told[keyword].decided, told[keyword].outcome) == ("always", "removed")
