"""The key image: orientation, colours, odd shapes, and that its words fit."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicomnode import coding
from dicomnode.findings import Algorithm, Findings, Measurement, Region, Segment
from dicomnode.imaging import render
from dicomnode.imaging.chart import curves_picture, distributions
from dicomnode.imaging.geometry import arrange
from dicomnode.imaging.plane import Plane
from dicomnode.imaging.tally import take_tally
from dicomnode.imaging.typeface import font
from dicomnode.imaging.views import LUNG_WINDOW, Planes, _overlay, covering, paint
from dicomnode.imaging.volume import Volume

BLUE, ORANGE = (90, 200, 250), (255, 159, 67)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def volume_of(values: Any, spacing: Any = (2.0, 1.0, 1.0), orientation: Any = AXIAL) -> Any:
    normal = np.cross(orientation[:3], orientation[3:])
    planes = [
        Plane(
            sop_instance_uid=str(k),
            position=tuple(spacing[0] * k * normal),
            orientation=orientation,
            pixel_spacing=spacing[1:],
            rows=values.shape[1],
            columns=values.shape[2],
            slice_thickness=None,
            frame_of_reference_uid="1",
        )
        for k in range(len(values))
    ]
    return Volume(values=values, geometry=arrange(planes), padding=None, sop_instance_uids=("1",) * len(values))


def segment(number: Any, label: Any, colour: Any) -> Any:
    return Segment(
        number=number,
        label=label,
        category=coding.ANATOMICAL_STRUCTURE,
        type=coding.LUNG,
        laterality=None,
        colour=colour,
    )


def findings_of(
    regions: Any = True, remarks: Any = (), research_only: Any = False, caveat: Any = "", truncated: Any = ()
) -> Any:
    segments = (segment(1, "Right lung", BLUE), segment(2, "Left lung with an absurdly long name", ORANGE))
    measurements = (
        Measurement(concept=coding.VOLUME, value=2345.6, unit=coding.MILLILITRE),
        Measurement(concept=coding.MEAN_LUNG_DENSITY, value=-834.2, unit=coding.HOUNSFIELD_UNIT),
        Measurement(concept=coding.LAA_950, value=12.34, unit=coding.PERCENT, caveat=caveat),
    )
    found = [
        Region(
            label=item.label,
            segments=(item.number,),
            site=coding.LUNG,
            laterality=None,
            measurements=measurements[: item.number + 1],
            truncated=truncated,
        )
        for item in segments
    ]
    total = Region(
        label="Both lungs", segments=(1, 2), site=coding.BOTH_LUNGS, laterality=None, measurements=measurements
    )
    algorithm = Algorithm(
        name="ct-lung",
        version="1.0.0",
        title="Lung segmentation",
        manufacturer="us",
        digest="0" * 64,
        engine="cpu",
        research_only=research_only,
    )
    return Findings(
        algorithm=algorithm, segments=segments, regions=(*found, total) if regions else (), remarks=tuple(remarks)
    )


def body() -> Any:
    values = np.full((40, 60, 70), -1000, np.int16)
    values[:, 5:55, 5:65] = 40
    labels = np.zeros(values.shape, np.uint8)
    labels[5:35, 15:45, 10:30] = 1
    labels[10:30, 15:45, 40:60] = 2
    values[labels > 0] = -850
    return values, labels


def near(picture: Any, colour: Any) -> Any:
    return np.abs(picture.astype(int) - colour).max(axis=2) < 25


def test_the_page() -> None:
    values, labels = body()
    page = render.key_image(volume_of(values), labels, findings_of())
    assert page.shape == (960, 1280, 3)
    assert page.dtype == np.uint8
    assert near(page, BLUE).sum() > 500
    assert near(page, ORANGE).sum() > 500
    again = render.key_image(volume_of(values), labels, findings_of())
    np.testing.assert_array_equal(page, again)


def test_right_is_at_the_left_and_the_head_is_up() -> None:
    values, labels = body()
    values[labels == 2] = -700
    views = Planes(volume_of(values), labels, axials=3).views()
    for view in (views.coronal, *views.axials[1:]):
        assert view.letters[:2] == ("R", "L")
        columns = [np.flatnonzero((view.labels == n).any(axis=0)) for n in (1, 2)]
        assert columns[0].max() < columns[1].min()
        right, left = (np.median(view.values[view.labels == n]) for n in (1, 2))
        assert right < left - 50 < -400, "the picture is not mirrored under its labels"
    rows = [np.flatnonzero((views.coronal.labels == n).any(axis=1)) for n in (1, 2)]
    assert rows[0].min() < rows[1].min()
    assert views.sagittal.letters == ("A", "P", "H", "F")
    assert views.coronal.letters[2:] == ("H", "F")


COS, SIN = float(np.cos(np.radians(30))), float(np.sin(np.radians(30)))
COS10, SIN10 = float(np.cos(np.radians(10))), float(np.sin(np.radians(10)))
#: Orientation of the source → letters at left, right, top and bottom of the axial, coronal and sagittal view.
LETTERS = {
    "head first supine": (AXIAL, ("RLAP", "RLHF", "APHF")),
    "feet first supine": ((-1, 0, 0, 0, 1, 0), ("RLAP", "RLHF", "APHF")),
    "head first prone": ((-1, 0, 0, 0, -1, 0), ("RLAP", "RLHF", "APHF")),
    "coronal": ((1, 0, 0, 0, 0, -1), ("RLAP", "RLHF", "APHF")),
    "sagittal": ((0, 1, 0, 0, 0, -1), ("RLAP", "RLHF", "APHF")),
    "a little oblique": ((COS10, SIN10, 0, -SIN10, COS10, 0), ("RLAP", "RLHF", "APHF")),
    "turned about the long axis": ((COS, SIN, 0, -SIN, COS, 0), ("RA LP AL PR", "RA LP H F", "AL PR H F")),
    "turned the same, feet first": ((-COS, -SIN, 0, -SIN, COS, 0), ("RA LP AL PR", "RA LP H F", "AL PR H F")),
    "tipped forward": ((1, 0, 0, 0, COS, SIN), ("R L AF PH", "R L HA FP", "AF PH HA FP")),
}


@pytest.mark.parametrize(("orientation", "letters"), LETTERS.values(), ids=LETTERS)
def test_letters_say_where_the_patients_sides_are(orientation: Any, letters: Any) -> None:
    values = np.full((60, 60, 60), 40, np.int16)
    labels = np.zeros(values.shape, np.uint8)
    labels[20:40, 20:40, 20:40] = 1
    views = Planes(volume_of(values, (1.0, 1.0, 1.0), orientation), labels, axials=1).views()
    told = [view.letters for view in (views.axials[0], views.coronal, views.sagittal)]
    assert told == [tuple(words.split()) if " " in words else tuple(words) for words in letters]


class Written:
    """What stands on the pictures of a page: words, and the box that they take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels: list[tuple[str, tuple[float, ...]]] = []
        label = render._Page._label

        def write(page: Any, at: Any, words: str, size: int, anchor: str) -> None:
            box = font(size).getbbox(words, anchor=anchor)
            self.labels.append((words, (at[0] + box[0], at[1] + box[1], at[0] + box[2], at[1] + box[3])))
            label(page, at, words, size, anchor)

        monkeypatch.setattr(render._Page, "_label", write)

    def collisions(self) -> list[tuple[str, str]]:
        return [
            (first, second)
            for (first, one), (second, other) in itertools.combinations(self.labels, 2)
            if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
        ]

    def count(self, words: str) -> int:
        return [one for one, _ in self.labels].count(words)


@pytest.mark.parametrize(
    "planes",
    [("Axial", "Coronal", "Sagittal"), ("Transversal lang", "Koronal", "Sagittal"), ("轴位", "冠状位", "矢状位")],
)
@pytest.mark.parametrize("orientation", [AXIAL, (COS, SIN, 0.0, -SIN, COS, 0.0)], ids=["straight", "oblique"])
def test_every_view_has_its_four_letters_and_nothing_is_written_over(
    monkeypatch: pytest.MonkeyPatch, orientation: Any, planes: Any
) -> None:
    written = Written(monkeypatch)
    values, labels = body()
    render.key_image(
        volume_of(values, orientation=orientation), labels, findings_of(), texts=render.Texts(planes=planes)
    )
    sides = ("R", "L", "A", "P") if orientation is AXIAL else ("RA", "LP", "AL", "PR")
    assert [written.count(side) for side in sides] == [4, 4, 4, 4]  # three axial views and one other
    assert [written.count(side) for side in "HF"] == [2, 2]
    assert sum(words.startswith(planes[0]) for words, _ in written.labels) == 3
    assert written.collisions() == []


def test_letters_at_the_top_of_a_row_stand_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    values, labels = body()
    render.key_image(volume_of(values), labels, findings_of())
    assert len({box[1] for words, box in written.labels if words == "A" and box[2] > 0 and box[1] > 500}) == 1


def test_a_low_picture_has_its_letters_and_no_caption_in_their_way(monkeypatch: pytest.MonkeyPatch) -> None:
    written = Written(monkeypatch)
    values, labels = np.full((4, 60, 70), -1000, np.int16), np.zeros((4, 60, 70), np.uint8)
    labels[:, 20:30, 10:60] = 1
    render.key_image(volume_of(values, (5, 3, 3)), labels, findings_of())
    assert [written.count(side) for side in "HF"] == [2, 2]
    assert not {("Coronal", "H"), ("Sagittal", "H")} & {(a.split()[0], b) for a, b in written.collisions()}


def test_views_do_not_depend_on_how_the_scan_was_stored() -> None:
    values, labels = body()
    plain = Planes(volume_of(values), labels, axials=3).views()
    turned = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # feet first: slices run down, columns run right
    flip = (slice(None, None, -1), slice(None), slice(None, None, -1))
    other = Planes(volume_of(values[flip], orientation=turned), labels[flip], axials=3).views()
    for first, second in (
        (plain.coronal, other.coronal),
        (plain.sagittal, other.sagittal),
        (plain.axials[0], other.axials[0]),
    ):
        np.testing.assert_array_equal(first.values, second.values)
        np.testing.assert_array_equal(first.labels, second.labels)


def test_without_labels_the_body_is_shown() -> None:
    values, labels = body()
    wide = np.full((40, 160, 170), -1000, np.int16)
    wide[:, 50:110, 40:110] = values
    views = Planes(volume_of(wide), np.zeros(wide.shape, np.uint8), axials=3).views()
    assert views.axials[0].values.shape == (50 + 2 * 18, 60 + 2 * 18)
    assert views.coronal.values.shape == (40, 60 + 2 * 18)
    assert labels.any()


def test_levels_on_the_coronal_view_are_those_of_the_axial_ones() -> None:
    values, labels = body()
    for z in range(len(values)):
        values[z] = z * 10
    views = Planes(volume_of(values), labels, axials=3).views()
    for (height, name), axial in zip(views.coronal.levels, views.axials, strict=True):
        row = int(height * views.coronal.values.shape[0])
        assert views.coronal.values[row, 0] == axial.values[0, 0]
        assert axial.caption.startswith(f"Axial {name} ")
        assert axial.caption.endswith(f"S {axial.values[0, 0] / 10 * 2:.0f} mm")


def test_a_painted_view_is_windowed_tinted_and_outlined() -> None:
    values, labels = body()
    view = Planes(volume_of(values), labels, axials=1).views().axials[0]
    size = (view.values.shape[1] * 4, view.values.shape[0] * 4)
    bare = paint(view, size, {}, (0.0, 2000.0))
    picture = paint(view, size, {1: BLUE, 2: ORANGE}, LUNG_WINDOW)
    assert picture.shape == (size[1], size[0], 3)
    assert bare.shape == picture.shape
    row = picture[size[1] // 2].astype(int)
    lines = np.flatnonzero(np.abs(row - BLUE).max(axis=1) < 40)
    assert 2 <= len(lines) <= 10
    inside = row[lines.min() + 8]
    assert inside[2] > inside[0] + 10


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((2, 1, 1), (1, 1, 1)),
        ((2, 3, 2), (5, 1, 1)),
        ((300, 20, 20), (5, 1, 1)),
        ((3, 200, 20), (1, 1, 1)),
        ((3, 20, 300), (1, 1, 1)),
        ((2, 64, 64), (40, 0.1, 0.1)),
    ],
)
@pytest.mark.parametrize("found", [True, False])
def test_odd_shapes(shape: Any, spacing: Any, found: Any) -> None:
    values = np.zeros(shape, np.float32)
    labels = np.zeros(shape, np.uint8)
    if found:
        labels[shape[0] // 2, shape[1] // 2, shape[2] // 2] = 1
    page = render.key_image(volume_of(values, spacing), labels, findings_of(regions=found))
    assert page.shape == (960, 1280, 3)


def test_nothing_found_says_so() -> None:
    values, labels = body()
    silent = render.key_image(
        volume_of(values), labels * 0, findings_of(regions=False), texts=render.Texts(nothing_found="")
    )
    page = render.key_image(volume_of(values), labels * 0, findings_of(regions=False))
    assert (page != silent).any()
    assert not near(page, BLUE).any()


def test_every_text_is_drawn() -> None:
    values, labels = body()
    plain = findings_of(caveat="x", truncated=("inferior",), remarks=("Right lung is cut.",) * 40, research_only=True)
    page = render.key_image(volume_of(values), labels, plain)
    names = (
        "headline",
        "subtitle",
        "measurements",
        "remarks",
        "not_reviewed",
        "research_only",
        "lower_bound",
        "caveat",
        "window",
        "level",
        "volume",
    )
    for name in names:
        other = render.key_image(volume_of(values), labels, plain, texts=render.Texts(**{name: "Größe – ż 肺"}))
        assert (page != other).any(), name
    assert (render.key_image(volume_of(values), labels, plain, texts=render.Texts(not_reviewed="")) != page).any()
    named = render.key_image(
        volume_of(values), labels, plain, texts=render.Texts(planes=("Axial", "Koronal", "Sagittal"))
    )
    assert (named != page).any()


def test_the_chart_marks_its_threshold_only_where_it_was_measured() -> None:
    values, labels = body()
    values[:, 20, :] = np.where(labels[:, 20, :] > 0, -980, values[:, 20, :])
    full = findings_of()
    short = replace(
        full, regions=tuple(replace(region, measurements=region.measurements[:2]) for region in full.regions)
    )
    volumes = replace(
        full, regions=tuple(replace(region, measurements=region.measurements[:1]) for region in full.regions)
    )
    panel = (slice(700, 900), slice(890, 1250))
    pages = [render.key_image(volume_of(values), labels, findings)[panel] for findings in (full, short, volumes)]
    assert (pages[0] != pages[1]).any()
    assert near(pages[1], ORANGE).any()
    assert not near(pages[2], ORANGE).any()


def test_distributions_are_shares_without_padding() -> None:
    values = np.full((40, 4, 4), -805, np.int16)
    values[0] = -3000
    labels = np.ones(values.shape, np.uint8)
    labels[30:] = 3
    padding = np.zeros(values.shape, bool)
    padding[0] = True
    curves = distributions(take_tally(values, labels, padding), [1, 2, 3])
    assert list(curves) == [1, 3]
    assert curves[1].sum() == pytest.approx(1)
    assert curves[1].argmax() == (-805 + 1020) // 10
    assert distributions(take_tally(values, labels, None), [1])[1].sum() == pytest.approx(29 / 30)
    flat = {1: np.zeros(64), 2: np.ones(64)}
    picture = np.asarray(curves_picture(flat, (64, 40), {1: BLUE}, threshold=-950.0, background=(0, 0, 0)))
    assert picture[30, 0].max() > picture[30, 40].max() > 0


def test_a_table_of_nothing_but_names() -> None:
    values, labels = body()
    full = findings_of()
    many = replace(full, regions=full.regions * 20)
    assert render.key_image(volume_of(values), labels, many).shape == (960, 1280, 3)
    empty = replace(full, regions=tuple(replace(region, measurements=()) for region in full.regions))
    assert render.key_image(volume_of(values), labels, empty).shape == (960, 1280, 3)


def test_labels_and_volume_must_agree() -> None:
    values, labels = body()
    with pytest.raises(ValueError, match="shape"):
        render.key_image(volume_of(values), labels[1:], findings_of())


def test_png_holds_the_picture_and_nothing_else() -> None:
    picture = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    data = render.png(picture)
    image = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(image), picture)
    assert image.info == {}


def two(places: Any, radii: Any) -> Any:
    """Balls of labels 1, 2 and so on, at (z, y, x) and with these radii in voxels."""
    labels = np.zeros((60, 80, 90), np.uint8)
    z, y, x = np.ogrid[:60, :80, :90]
    for number, ((a, b, c), radius) in enumerate(zip(places, radii, strict=True), start=1):
        labels[(z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2 <= radius**2] = number
    return np.where(labels > 0, 40, -1000).astype(np.int16), labels


def test_a_small_segment_beside_a_large_one_is_shown() -> None:
    values, labels = two([(35, 40, 30), (6, 20, 75)], [24, 2])
    views = Planes(volume_of(values), labels, axials=3).views()
    assert {1, 2} <= {int(number) for view in views.axials for number in np.unique(view.labels)}
    page = render.key_image(volume_of(values), labels, findings_of())
    assert near(page[:, :880], ORANGE).sum() > 20


def test_equal_shares_where_everything_is_seen_and_the_best_planes_where_not() -> None:
    areas = np.zeros((50, 3), np.int64)
    areas[10:40, 0] = 100
    areas[12:38, 1] = 80
    assert covering(areas, 3) == (15, 24, 34)
    areas[44:47, 2] = 5
    assert 45 in covering(areas, 3)
    assert covering(areas, 1)[0] in range(12, 38), "two of three"
    assert covering(np.zeros((9, 2), np.int64), 3) == (1, 4, 7)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_segment_of_few_voxels_is_drawn(count: Any) -> None:
    values, labels = np.full((40, 300, 300), -1000, np.int16), np.zeros((40, 300, 300), np.uint8)
    labels[5:35, 20:200, 20:200] = 1
    labels[20, 260, 260 : 260 + count] = 2
    page = render.key_image(volume_of(values), labels, findings_of())
    assert near(page[:, :880], ORANGE).sum() > 0
    alone = np.where(labels == 2, labels, 0).astype(np.uint8)
    page = render.key_image(volume_of(values), alone, findings_of())
    drawn = np.argwhere(np.abs(page[76:, :880].astype(int) - ORANGE).max(axis=2) < 60)
    assert len(drawn) > 10


def test_nothing_but_a_piece_is_drawn_where_a_piece_is_small() -> None:
    mask = np.zeros((60, 60), np.float32)
    mask[30, 30] = 1
    place, fill, line = _overlay(mask, (300, 300))
    rows, columns = np.nonzero(line > 0.1)
    assert len(rows) > 5
    assert np.hypot(rows + place[0].start - 152, columns + place[1].start - 152).max() < 12
    assert fill.max() == 1


def test_the_slices_that_a_picture_shows_are_named() -> None:
    values, labels = two([(30, 40, 30), (30, 40, 70)], [24, 12])
    plain = Planes(volume_of(values), labels, axials=3)
    captions = [view.caption.rsplit(" ", 2)[1] for view in plain.views().axials]
    assert sorted(captions, key=float) == [f"{2 * index}" for index in plain.source_slices]
    sagittal = Planes(volume_of(values, orientation=(0, 1, 0, 0, 0, -1)), labels, axials=3)
    (index,) = sagittal.source_slices
    assert sagittal.views().sagittal.caption.endswith(f" {2 * index} mm")
    turned = Planes(volume_of(values[::-1], orientation=(-1, 0, 0, 0, 1, 0)), labels[::-1], axials=3)
    assert [len(values) - 1 - index for index in reversed(turned.source_slices)] == list(plain.source_slices)


def test_the_slices_of_an_uneven_stack_are_named_by_their_places() -> None:
    heights = np.concatenate([np.arange(30.0), 30 + 2.7 * np.arange(30)])
    values, labels = two([(30, 40, 40)], [24])
    planes = [
        Plane(
            sop_instance_uid=str(k),
            position=(0.0, 0.0, float(height)),
            orientation=AXIAL,
            pixel_spacing=(1.0, 1.0),
            rows=80,
            columns=90,
            slice_thickness=None,
            frame_of_reference_uid="1",
        )
        for k, height in enumerate(heights)
    ]
    volume = Volume(values=values, geometry=arrange(planes), padding=None, sop_instance_uids=("1",) * 60)
    shown = Planes(volume, labels, axials=3)
    for index, view in zip(reversed(shown.source_slices), shown.views().axials, strict=True):
        assert abs(float(view.caption.split()[-2]) - heights[index]) < 2


def test_a_window_upside_down_shows_low_values_bright() -> None:
    values, labels = body()
    view = Planes(volume_of(values), 0 * labels, axials=1).views().axials[0]
    size = (view.values.shape[1], view.values.shape[0])
    upright, inverted = (paint(view, size, {}, (0.0, width)).astype(int) for width in (2000.0, -2000.0))
    assert np.ptp(upright) > 100
    assert np.abs(upright + inverted - 255).max() <= 1
