"""Properties of results: any mask comes back, any text keeps its letters, any identity returns."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.encoded import encode_dataset
from dicomnode.imaging.contour import contour, key_slices
from dicomnode.results import charset, checks, geometry, segmentation
from dicomnode.results.encode import encode_results
from dicomnode.results.report_groups import KeyContour
from tests.unit.results import material

TERMS = (
    (),
    ("ISO_IR 6",),
    ("ISO_IR 100",),
    ("ISO_IR 101",),
    ("ISO_IR 144",),
    ("ISO_IR 166",),
    ("ISO_IR 192",),
    ("GB18030",),
    ("", "ISO 2022 IR 87"),
    ("ISO 2022 IR 13", "ISO 2022 IR 87"),
    ("", "ISO 2022 IR 149"),
    ("", "ISO 2022 IR 100", "ISO 2022 IR 144"),
)
LETTERS = st.characters(
    codec="utf-8", exclude_categories=("Cc", "Cs", "Cf", "Zl", "Zp", "Zs"), exclude_characters="\\^="
)
COMMON = st.sampled_from("aZ09 .-äßéŁπжกא山田太郎やまだﾔﾏ홍길王小¥‾²≥")
WORDS = st.text(st.one_of(LETTERS, COMMON), min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=150, deadline=None)
@given(terms=st.sampled_from(TERMS), family=WORDS, given_name=WORDS, description=WORDS)
def test_what_the_chosen_character_set_writes_is_read_back(
    terms: tuple[str, ...], family: str, given_name: str, description: str
) -> None:
    dataset = Dataset()
    dataset.PatientName = f"{family}^{given_name}"
    dataset.StudyDescription = description
    chosen = charset.choose(terms, charset.texts_of(dataset))
    if chosen:
        dataset.SpecificCharacterSet = list(chosen)
    again = checks.decode(encode_dataset(dataset, "1.2.840.10008.1.2.1"))
    assert str(again.PatientName) == f"{family}^{given_name}"
    assert again.StudyDescription == description
    assert chosen in (terms, (charset.UTF_8,))


@st.composite
def masks(draw: st.DrawFn) -> np.ndarray:
    slices, rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 9)), draw(st.integers(1, 11))
    seed = draw(st.integers(0, 2**32 - 1))
    density = draw(st.sampled_from((0.02, 0.3, 0.9)))
    random = np.random.default_rng(seed)
    labels = random.integers(1, 3, (slices, rows, columns)) * (random.random((slices, rows, columns)) < density)
    labels[draw(st.integers(0, slices - 1)), 0, 0] = draw(st.integers(1, 2))
    return labels.astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(labels=masks())
def test_any_mask_comes_back_exactly(labels: np.ndarray) -> None:
    slices, rows, columns = labels.shape
    sources = material.copies(material.source_series(slices, rows=rows, columns=columns))
    made = segmentation.build(labels, sources, material.findings_for(), material.context_for())
    decoded = checks.decode(encode_dataset(made, "1.2.840.10008.1.2.1"))
    geometry.prove_segmentation(decoded, labels, sources)
    assert len(decoded.PixelData) % 2 == 0


@settings(max_examples=200, deadline=None)
@given(
    left=st.integers(0, 20), top=st.integers(0, 20), width=st.integers(1, 20), height=st.integers(1, 20),
    notch=st.integers(0, 19),
)  # fmt: skip
def test_the_inner_point_lies_inside(left: int, top: int, width: int, height: int, notch: int) -> None:
    cut = min(notch, width - 1)  # an L along pixel edges, as a mask's outline is
    middle = top + (height + 1) // 2
    points = [(left, top), (left + width, top), (left + width, middle), (left + width - cut, middle)]
    points += [(left + width - cut, top + height), (left, top + height)]
    contour = KeyContour(segment=1, slice_index=0, points=tuple((float(x), float(y)) for x, y in points))
    column, row = contour.inner_point()
    right = left + width if row < middle else left + width - cut
    assert left < column < right
    assert top < row < top + height
    closed = dataclasses.replace(contour, points=(*contour.points, contour.points[0]))
    assert closed.area() == contour.area()
    assert closed.inner_point() == (column, row)


@settings(max_examples=20, deadline=None)
@given(labels=masks())
def test_any_mask_gets_a_report_that_viewers_draw(labels: np.ndarray) -> None:
    slices, rows, columns = labels.shape
    originals = material.source_series(slices, rows=rows, columns=columns)
    contours = tuple(
        KeyContour(segment=number, slice_index=index, points=tuple(contour(labels[index] == number)))
        for number, index in key_slices(labels).items()
    )
    given_input = material.input_for(originals, labels, contours=contours)
    results = encode_results(given_input, material.context_for(), material.identity_of(originals))
    assert len(results) == 4
