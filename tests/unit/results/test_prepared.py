"""What is prepared while the network runs ends in the very bytes of the plain way, and is proved like it."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode import coding
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import StudyError
from dicomnode.findings import Findings
from dicomnode.imaging.census import take_census
from dicomnode.results import checks_frames, encode, prepared, segmentation, stand_in
from dicomnode.results.encode import EncodedResult, ResultInput, encode_results, prepare_results
from dicomnode.results.planes import Alike
from dicomnode.results.prepared import Completed, Prepared
from dicomnode.results.sources import read_sources
from tests.unit.results import material

Labels = NDArray[np.uint8]


def alone(number: int) -> Labels:
    labels = material.labels_for()
    labels[labels != number] = 0
    return labels


def one_plane() -> Labels:
    labels = material.labels_for()
    labels[:3] = labels[4:] = 0
    return labels


def with_a_gap() -> Labels:
    labels = material.labels_for()
    labels[2] = 0
    labels[3, :, :24] = 0
    return labels


def both_ways(
    originals: list[Dataset], labels: Labels, findings: Findings | None = None
) -> tuple[tuple[EncodedResult, ...], tuple[EncodedResult, ...]]:
    given = material.input_for(originals, labels, findings=findings or material.findings_for())
    identity, context = material.identity_of(originals), material.context_for()
    ready = prepare_results(given.sources, given.findings, context, identity)
    assert ready is not None
    return encode_results(given, context, identity, ready), encode_results(given, context, identity)


@pytest.mark.parametrize(
    "labels",
    [material.labels_for(), alone(1), alone(2), one_plane(), with_a_gap()],
    ids=["all", "one", "two", "plane", "gap"],
)
def test_the_bytes_are_those_of_the_plain_way(labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    completed: list[Completed] = []
    plain = prepared.complete

    def noted(*given: object) -> Completed:
        completed.append(plain(*given))  # type: ignore[arg-type]
        return completed[-1]

    monkeypatch.setattr(prepared, "complete", noted)
    ours, theirs = both_ways(material.source_series(), labels)
    assert ours == theirs
    assert len(completed) == 1, "it was not made the plain way twice"


@pytest.mark.parametrize("size", [(7, 5), (3, 3), (16, 24)])
def test_frames_that_end_within_a_byte(size: tuple[int, int]) -> None:
    rows, columns = size
    labels = np.zeros((6, rows, columns), np.uint8)
    labels[1:5, 1:, :2] = 1
    labels[2:4, :, 2:] = 2
    ours, theirs = both_ways(material.source_series(rows=rows, columns=columns), labels)
    assert ours == theirs


def test_an_oblique_series() -> None:
    orientation = (0.96, 0.28, 0.0, -0.168, 0.576, -0.8)
    ours, theirs = both_ways(material.source_series(orientation=orientation), material.labels_for())
    assert ours == theirs


def without_a_slice(originals: list[Dataset]) -> None:
    del originals[4]


def many_digits(originals: list[Dataset]) -> None:
    for index, original in enumerate(originals):
        original.ImagePositionPatient = [f"{-20.123456789012345:.14g}", -15.987654321, 100 + index / 3]


def long_uids(originals: list[Dataset]) -> None:
    for index, original in enumerate(originals):
        original.SOPInstanceUID = f"1.2.826.0.1.3680043.8.498.1.{10 ** (5 * index) + 1}"


def lossy(originals: list[Dataset]) -> None:
    for original in originals:
        original.LossyImageCompression, original.LossyImageCompressionRatio = "01", 8.5


def unevenly(originals: list[Dataset]) -> None:
    for index, original in enumerate(originals):
        original.ImagePositionPatient = ["-20.5", "-15.25", f"{100 + 2.5 * index + 0.02 * index**2:.6g}"]


def odd_class(originals: list[Dataset]) -> None:
    originals[3].SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"


def three_slices(originals: list[Dataset]) -> None:
    del originals[3:]


def nearly_in_one_place(originals: list[Dataset]) -> None:
    originals[3].ImagePositionPatient = ["-20.5", "-15.25", "105.00000001"]


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        (lambda originals: None, 3),
        (without_a_slice, 3),
        (many_digits, 3),
        (long_uids, 3),
        (lossy, 3),
        (unevenly, 3),
        (odd_class, 8),
        (three_slices, 3),
        (nearly_in_one_place, 8),
    ],
)
def test_the_library_looks_at_a_few_planes_where_the_others_are_like_them(
    change: Callable[[list[Dataset]], None], shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    originals, built = material.source_series(8), list[int]()
    with hushed():
        change(originals)
    plain = segmentation.build

    def noted(labels: Labels, *rest: object) -> Dataset:
        built.append(len(labels))
        return plain(labels, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(segmentation, "build", noted)
    labels = material.labels_for(8)[: len(originals)]
    ours, theirs = both_ways(originals, labels)
    assert ours == theirs
    assert built == [shown, len(originals)]


@pytest.mark.parametrize("broken", ["items", "ranks", "long"])
def test_where_the_others_do_not_follow_the_library_looks_at_all(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Alike, broken, lambda *_: None)
    ours, theirs = both_ways(material.source_series(8), material.labels_for(8))
    assert ours == theirs


def test_planes_of_another_form_and_of_another_order_do_not_follow() -> None:
    originals = material.source_series(8)
    identity = material.identity_of(originals)
    alike = Alike.of(read_sources(material.copies(originals)), identity.uids)
    assert alike is not None
    made = stand_in._of_all(alike.few, material.findings_for(), material.context_for(), identity)
    assert made is not None
    assert alike.items(made.items) is not None
    assert alike.items([made.items[0], made.items[1], made.items[1]]) is None
    assert all(alike.long(encoded) for encoded in made.bulk.values())
    for encoded in made.bulk.values():
        assert alike.long(encoded.replace(b"498.1.2\0", b"498.1.9\0")) is None
    assert alike.ranks([1, 2, 3]) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert alike.ranks([3, 2, 1]) == [8, 7, 6, 5, 4, 3, 2, 1]
    assert alike.ranks([2, 1, 3]) is None


def test_a_uid_that_is_none_is_left_to_the_library() -> None:
    originals = material.source_series(8)
    for uids in ({}, {material.pseudonym(str(originals[3].SOPInstanceUID)): " 1.2"}):
        alike = Alike.of(read_sources(material.copies(originals)), uids)
        assert (alike is None) == bool(uids)


def test_more_segments_than_planes_and_codes_that_only_absent_ones_have() -> None:
    base = material.findings_for()
    others = [
        dataclasses.replace(
            base.segments[0],
            number=number,
            label=f"Größe {number}",
            type=coding.private("ODD", "Something odd"),
            laterality=None,
        )
        for number in range(3, 40)
    ]
    findings = dataclasses.replace(base, segments=(*base.segments, *others))
    ours, theirs = both_ways(material.source_series(), material.labels_for(), findings)
    assert ours == theirs
    assert b"99DICOMNODE" not in bytes(ours[0].encoded)
    labels = material.labels_for()
    labels[2, 0, :3] = 20
    contour = dataclasses.replace(material.box_contour(labels, 1), segment=20)
    given = material.input_for(material.source_series(), labels, findings=findings)
    given = dataclasses.replace(given, contours=(*given.contours, contour))
    identity = material.identity_of(material.source_series())
    ready = prepare_results(given.sources, findings, material.context_for(), identity)
    ours = encode_results(given, material.context_for(), identity, ready)
    assert ours == encode_results(given, material.context_for(), identity)
    assert b"99DICOMNODE" in bytes(ours[0].encoded)


def given_and_ready(**changes: object) -> tuple[ResultInput, Prepared]:
    originals = material.source_series()
    given = material.input_for(originals, **changes)  # type: ignore[arg-type]
    ready = prepare_results(given.sources, given.findings, material.context_for(), material.identity_of(originals))
    assert ready is not None
    return given, ready


def test_what_was_prepared_for_others_is_left_aside() -> None:
    given, ready = given_and_ready()
    identity = material.identity_of(material.source_series())
    context = material.context_for().written_as("binary")
    assert ready.fits(given.sources, given.findings, context)
    assert not ready.fits(given.sources[1:], given.findings, context)
    assert not ready.fits(given.sources, dataclasses.replace(given.findings, segments=()), context)
    later = dataclasses.replace(context, station_name="OTHER")
    assert not ready.fits(given.sources, given.findings, later)
    other = dataclasses.replace(context, mint=lambda role, *parts: context.mint(role, *parts, "other"))
    assert not ready.fits(given.sources, given.findings, other)

    assert encode_results(given, later, identity, ready) == encode_results(given, later, identity)


def test_an_item_without_room_for_blanks_is_not_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "NUMBER", b"nowhere")
    given, identity = material.input_for(), material.identity_of(material.source_series())
    assert prepare_results(given.sources, given.findings, material.context_for(), identity) is None


def test_nothing_found_and_a_wrong_map_are_told_alike() -> None:
    given, ready = given_and_ready()
    identity, context = material.identity_of(material.source_series()), material.context_for()
    for labels, reason in ((np.zeros_like(given.labels), "nothing-found"), (given.labels[1:], "result-invalid")):
        wrong = dataclasses.replace(given, labels=labels)
        for way in (ready, None):
            with pytest.raises(StudyError) as caught:
                encode_results(wrong, context, identity, way)
            assert caught.value.code == reason


def completed_of(labels: Labels) -> tuple[Completed, Prepared]:
    given, ready = given_and_ready()
    with hushed():
        made = prepared.complete(ready, labels, given.findings, material.identity_of(material.source_series()))
    return dataclasses.replace(made, encoded=bytes(made.encoded)), ready


def flip_a_pixel(made: Completed) -> bytes:
    data = bytearray(made.encoded)
    data[made.pixels_at + 100] ^= 1
    return bytes(data)


def pad_with_ones(made: Completed) -> bytes:
    return bytes(made.encoded) + b"\1\0"


def rename_a_segment(made: Completed) -> bytes:
    at = bytes(made.encoded).index(checks_frames._NUMBER, made.frames_at) + len(checks_frames._NUMBER)
    return bytes(made.encoded)[:at] + b"\2" + bytes(made.encoded)[at + 1 :]


def swap_two_segments(made: Completed) -> bytes:
    data = bytearray(made.encoded)
    at = made.frames_at
    while (at := data.find(checks_frames._NUMBER, at)) >= 0:
        at += len(checks_frames._NUMBER)
        data[at] = {1: 2, 2: 1}[data[at]]
    return bytes(data)


def refer_to_another_image(made: Completed) -> bytes:
    at = bytes(made.encoded).index(b"1.2.826.0.1.3680043.8.498.1.", made.frames_at)
    return bytes(made.encoded)[: at + 28] + b"9" + bytes(made.encoded)[at + 29 :]


def lose_the_position(made: Completed) -> bytes:
    at = bytes(made.encoded).index(checks_frames._POSITION, made.frames_at)
    return bytes(made.encoded)[:at] + b"\0\0\0\0" + bytes(made.encoded)[at + 4 :]


def move_a_frame(made: Completed) -> bytes:
    at = bytes(made.encoded).index(checks_frames._POSITION, made.frames_at) + 8
    return bytes(made.encoded)[:at] + b"9" + bytes(made.encoded)[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (flip_a_pixel, "mask"),
        (pad_with_ones, "length"),
        (rename_a_segment, "position"),
        (swap_two_segments, "mask"),
        (refer_to_another_image, "item"),
        (lose_the_position, "item"),
        (move_a_frame, "position"),
    ],
)
def test_spoiled_bytes_are_not_sent(spoil: Callable[[Completed], bytes], check: str) -> None:
    made, ready = completed_of(material.labels_for())
    values = dict(enumerate(made.values, start=1))
    checks_frames.prove_frames(*prepared.parts(made), material.labels_for(), values, ready.planes)
    spoiled = dataclasses.replace(made, encoded=spoil(made))
    with pytest.raises(StudyError) as caught:
        checks_frames.prove_frames(*prepared.parts(spoiled), material.labels_for(), values, ready.planes)
    assert (caught.value.code, caught.value.facts["check"]) == ("result-geometry-differs", check)


def test_a_frame_that_is_missing_or_empty_is_seen() -> None:
    labels = material.labels_for()
    made, ready = completed_of(labels)
    values = dict(enumerate(made.values, start=1))
    more = labels.copy()
    more[0, 0, 0] = 1
    for wrong, check in ((more, "frames"),):
        with pytest.raises(StudyError) as caught:
            checks_frames.prove_frames(*prepared.parts(made), wrong, values, ready.planes)
        assert caught.value.facts["check"] == check
    blank = bytes(made.encoded)[: made.pixels_at] + bytes(len(made.encoded) - made.pixels_at)
    empty = dataclasses.replace(made, encoded=blank)
    with pytest.raises(StudyError) as caught:
        checks_frames.prove_frames(*prepared.parts(empty), labels, values, ready.planes)
    assert caught.value.facts["check"] == "empty-frame"


def test_the_encoder_proves_what_it_completes(monkeypatch: pytest.MonkeyPatch) -> None:
    given, ready = given_and_ready()
    plain = segmentation.pack
    monkeypatch.setattr(segmentation, "pack", lambda pixels, labels, *rest: plain(pixels, labels[::-1], *rest))
    with pytest.raises(StudyError) as caught:
        encode.encode_results(given, material.context_for(), material.identity_of(material.source_series()), ready)
    assert caught.value.code == "result-geometry-differs"


@settings(deadline=None, max_examples=60)
@given_any(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 9), st.sampled_from([1, 5, 8, 16, 64])),
    share=st.sampled_from([0.02, 0.5, 1.0]),
    data=st.data(),
)
def test_frames_are_packed_bit_by_bit_and_no_other_bit_passes(
    seed: int, shape: tuple[int, int, int], share: float, data: st.DataObject
) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < share, rng.integers(1, 4, shape), 0).astype(np.uint8)
    labels[0, 0, 0] = 1
    frames = [(index, value) for value in (1, 2, 3) for index in range(shape[0]) if (labels[index] == value).any()]
    rng.shuffle(frames)
    frames = [(int(index), int(value)) for index, value in sorted(frames, key=lambda frame: frame[1])]
    masks = np.stack([labels[index] == value for index, value in frames])
    pixels = np.zeros(segmentation.packed_length(len(frames), masks[0].size), np.uint8)
    segmentation.pack(pixels, labels, frames, take_census(labels).boxes)
    wanted = np.packbits(masks.reshape(-1), bitorder="little")
    assert np.array_equal(pixels[: len(wanted)], wanted)
    assert not pixels[len(wanted) :].any()

    planes = [_Place(position=(0.0, 0.0, float(index))) for index in range(shape[0])]
    items = b"".join(_item(value, planes[index].position) for index, value in frames)
    values = {1: 1, 2: 2, 3: 3}
    checks_frames.prove_frames(memoryview(items), memoryview(pixels.tobytes()), labels, values, planes)
    bit = data.draw(st.integers(0, masks.size - 1))
    pixels[bit // 8] ^= 1 << bit % 8
    with pytest.raises(StudyError):
        checks_frames.prove_frames(memoryview(items), memoryview(pixels.tobytes()), labels, values, planes)


@dataclasses.dataclass
class _Place:
    """A plane whose items are all its own."""

    position: tuple[float, ...]

    def is_item(self, item: bytes) -> bool:
        return bool(item)


def _item(number: int, position: tuple[float, ...]) -> bytes:
    """As much of an item of the frames as is read: Segment Number and Image Position (Patient)."""
    place = "\\".join(str(value) for value in position).encode()
    place += b" " * (len(place) % 2)
    item = checks_frames._NUMBER + struct.pack("<H", number)
    item += checks_frames._POSITION + struct.pack("<H", len(place)) + place
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(item)) + item
