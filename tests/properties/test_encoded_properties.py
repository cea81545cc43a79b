"""Any bytes: a result or one StudyError, and nothing else; what was read walks without a surprise."""

from __future__ import annotations

import warnings

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.encoded import (
    Limits,
    check_budget,
    encode_dataset,
    encode_part10,
    read_dataset,
    read_part10,
    scan_header,
    split_part10,
)
from dicomnode.encoded.quick import quick_header
from dicomnode.encoded.reading import _walked_header
from dicomnode.encoded.walk import layout_of, looks_implicit
from dicomnode.errors import StudyError

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG = "1.2.840.10008.1.2.2"
LIMITS = Limits(maximum_items=5000, maximum_inflated_bytes=1024 * 1024)
syntaxes = st.sampled_from([IMPLICIT, EXPLICIT, BIG, DEFLATED])
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _sample() -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = ["ISO 2022 IR 100", "ISO 2022 IR 87"]
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.StudyDate = "20200101"
    dataset.StudyTime = "101010.5"
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2"
    inner.ReferencedImageSequence = Sequence([Dataset()])
    dataset.ReferencedImageSequence = Sequence([inner, Dataset()])
    dataset.PatientName = "A^B=C"
    dataset.PatientAge = "001Y"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.ImagePositionPatient = [1.5, 2, -3e5]
    dataset.FrameIncrementPointer = [0x00181063, 0x00181065]
    dataset.Rows = 3
    dataset.add_new(0x00091010, "UN", b"\xfe\xff\x00\xe0\x00\x00\x00\x00")
    dataset.add_new(0x7FE00010, "OW", b"\0" * 18)
    return dataset


_SAMPLES = {syntax: encode_dataset(_sample(), syntax) for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)}
_FILE = encode_part10(_sample(), transfer_syntax_uid=EXPLICIT)


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them replaced, cut out, doubled or put in."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(result)))
        kind = draw(st.sampled_from(["set", "cut", "insert", "double", "end"]))
        if kind == "set" and at < len(result):
            result[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF, 0x1B, 0x5C]))
        elif kind == "cut":
            del result[at : at + draw(st.integers(1, 12))]
        elif kind == "insert":
            result[at:at] = draw(
                st.sampled_from([b"\xfe\xff\x00\xe0", b"\xff" * 4, b"\xfe\xff\xdd\xe0\0\0\0\0", b"SQ"])
            )
        elif kind == "double":
            result[at:at] = result[at : at + 40]
        else:
            del result[at:]
    return bytes(result)


def _survives(data: bytes, syntax: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in (scan_header, check_budget):
            try:
                call(data, syntax, LIMITS)
            except StudyError as error:
                assert error.code.startswith("object-")  # noqa: PT017 (either way is right)
        try:
            dataset = read_dataset(data, syntax, LIMITS)
        except StudyError:
            return
        for element in dataset.iterall():
            assert str(element.value) is not None
        dataset.walk(lambda _dataset, element: repr(element.VR))
        try:
            encode_dataset(dataset, syntax)
        except StudyError as error:
            assert error.code == "object-malformed"  # noqa: PT017


@quick
@given(st.binary(max_size=300), syntaxes)
def test_any_bytes(data: bytes, syntax: str) -> None:
    _survives(data, syntax)


@settings(quick, max_examples=400)
@given(st.data(), syntaxes)
def test_damaged_data_sets(data: st.DataObject, syntax: str) -> None:
    _survives(data.draw(mutated(_SAMPLES[syntax])), syntax)


@quick
@given(mutated(_FILE))
def test_damaged_files(data: bytes) -> None:
    try:
        split_part10(data)
        read_part10(data, LIMITS)
    except StudyError as error:
        assert error.code in {"object-malformed", "object-too-complex"}  # noqa: PT017


@quick
@given(syntaxes, st.integers(0, 400))
def test_a_cut_data_set_has_the_same_uids_or_none(syntax: str, count: int) -> None:
    try:
        header = scan_header(_SAMPLES[syntax][:count], syntax, LIMITS)
    except StudyError:
        return
    assert (header.sop_instance_uid, header.study_instance_uid) == ("1.2.3.4", "1.2.3")


@quick
@given(syntaxes, syntaxes)
def test_from_syntax_to_syntax_nothing_is_lost(first: str, second: str) -> None:
    dataset = read_dataset(_SAMPLES[first], first, LIMITS)
    again = read_dataset(encode_dataset(dataset, second), second, LIMITS)
    left = [
        (element.tag, element.value)
        for element in again.iterall()
        if element.tag.group != 0x7FE0 and element.VR != "SQ"
    ]
    right = [
        (element.tag, element.value)
        for element in _sample().iterall()
        if element.tag.group != 0x7FE0 and element.VR != "SQ"
    ]
    private = {0x00091010}
    assert [pair for pair in left if pair[0] not in private] == [pair for pair in right if pair[0] not in private]


def _plain() -> Dataset:
    """As most scanners write it, with nothing that the quick way leaves to the walk."""
    dataset = _sample()
    del dataset.ReferencedImageSequence
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = "1.2.3.9"
    return dataset


_PLAIN = {syntax: encode_dataset(_plain(), syntax) for syntax in (IMPLICIT, EXPLICIT, BIG, DEFLATED)}


@quick
@given(syntaxes, st.integers(0, 600), st.booleans())
def test_a_beginning_says_what_the_whole_says_or_nothing(syntax: str, count: int, plain: bool) -> None:
    encoded = (_PLAIN if plain else _SAMPLES)[syntax]
    try:
        begun = scan_header(encoded[:count], syntax, LIMITS, whole=False)
    except StudyError:
        return
    assert begun == scan_header(encoded, syntax, LIMITS)


@settings(quick, max_examples=400)
@given(st.data(), st.sampled_from([IMPLICIT, EXPLICIT]), st.booleans())
def test_the_quick_way_finds_what_the_walk_finds(data: st.DataObject, syntax: str, damaged: bool) -> None:
    encoded = data.draw(mutated(_PLAIN[syntax])) if damaged else _PLAIN[syntax]
    view, layout = memoryview(encoded), layout_of(syntax)
    found = quick_header(view, implicit=looks_implicit(view, 0, layout.implicit))
    assert damaged or found is not None
    try:
        walked = _walked_header(view, layout, LIMITS, whole=True)
    except StudyError:
        return
    assert found is None or found == walked
