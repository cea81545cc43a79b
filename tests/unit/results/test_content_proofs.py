"""A report is read again out of its bytes before it leaves: as the library reads it, and nothing in it goes unseen."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable

import pytest

from dicomnode.errors import StudyError
from dicomnode.identity import SourceIdentity
from dicomnode.results import checks, checks_content, encode, report
from dicomnode.results.elements import element, one_item, spliced
from dicomnode.study import ResultRole
from tests.unit.results import material

Spoil = Callable[[bytes], bytes]
CONTENT = 0x0040A730


@functools.cache
def whole() -> bytes:
    results = encode.encode_results(
        material.input_for(), material.context_for(), material.identity_of(material.source_series())
    )
    return next(result.encoded for result in results if result.role is ResultRole.REPORT)


def test_it_is_read_as_the_library_reads_it() -> None:
    ours, theirs = checks_content.decode_report(whole()), checks.decode(whole())
    assert ours == theirs
    assert str(ours) == str(theirs)


def test_equal_items_are_one_object() -> None:
    groups = checks_content.decode_report(whole()).ContentSequence[-2].ContentSequence
    first, second = (group.ContentSequence[0] for group in groups[:2])
    assert first is second, "both groups of a pair have the same Tracking Identifier"


def last(data: bytes, old: bytes, new: bytes) -> bytes:
    """Bytes with the last of many places changed: all before it were read before."""
    assert len(old) == len(new)
    assert data.count(old) > 1
    at = data.rindex(old)
    return data[:at] + new + data[at + len(old) :]


def reference_to_nothing(data: bytes) -> bytes:
    uid = str(material.source_series()[1].SOPInstanceUID).encode()
    return last(data, uid, uid[:-1] + b"9")


def pseudonym_left(data: bytes) -> bytes:
    uid = material.context_for().tracking_uid((1, 2)).encode()
    name = material.pseudonym(str(material.source_series()[0].SeriesInstanceUID)).encode()
    return data.replace(uid + b"\0" * (len(uid) % 2), name.ljust(len(uid) + len(uid) % 2, b"\0"))


def tracking_uid_without_contour(data: bytes) -> bytes:
    uid = material.context_for().tracking_uid((1, 2)).encode()
    other = material.context_for().device_uid.encode()
    return last(data, uid + b"\0" * (len(uid) % 2), other.ljust(len(uid) + len(uid) % 2, b"\0"))


def another_segment(data: bytes) -> bytes:
    number = b"\x62\0\x0b\0US\2\0"
    return data.replace(number + b"\2\0", number + b"\1\0")


def control_character(data: bytes) -> bytes:
    return last(data, b"Mean lung density", b"Mean\1lung density")


def number_that_is_none(data: bytes) -> bytes:
    return data.replace(b"DS\x08\x005285.75 ", b"DS\x08\x005285,75 ")


def another_vr(data: bytes) -> bytes:
    return last(data, b"\x40\0\x0a\xa3DS", b"\x40\0\x0a\xa3LO")


def out_of_order(data: bytes) -> bytes:
    return last(data, b"\x08\0\x04\x01LO", b"\x08\0\x00\x01LO")


def no_item(data: bytes) -> bytes:
    return last(data, b"\xfe\xff\0\xe0", b"\xfe\xff\x0d\xe0")


def beyond_the_end(data: bytes) -> bytes:
    return last(data, b"CS\x08\0CONTAINS", b"CS\xff\xffCONTAINS")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (reference_to_nothing, "result-reference-dangling"),
        (pseudonym_left, "result-invalid"),
        (tracking_uid_without_contour, "result-invalid"),
        (another_segment, "result-invalid"),
        (control_character, "result-invalid"),
        (number_that_is_none, "result-invalid"),
        (another_vr, "result-invalid"),
        (out_of_order, "result-invalid"),
        (no_item, "result-invalid"),
        (beyond_the_end, "result-invalid"),
    ],
)
def test_a_spoilt_report_does_not_leave(monkeypatch: pytest.MonkeyPatch, spoil: Spoil, code: str) -> None:
    plain = report.encode

    def spoilt(made: report.Report, identity: SourceIdentity) -> tuple[object, bytes]:
        header, data = plain(made, identity)
        changed = spoil(data)
        assert changed != data
        return header, changed

    monkeypatch.setattr(report, "encode", spoilt)
    originals = material.source_series()
    with pytest.raises(StudyError) as caught:
        encode.encode_results(material.input_for(originals), material.context_for(), material.identity_of(originals))
    assert caught.value.code == code


def test_sequences_too_deep_or_absent_are_refused() -> None:
    nested = b""
    for _ in range(40):
        nested = element(CONTENT, b"SQ", one_item(nested))
    header = element(0x00080060, b"CS", b"SR")
    for wrong in (header + nested, header, b"", header[:-1], header + struct.pack("<HH", 0x0040, 0xA730)):
        with pytest.raises(StudyError, match="result-invalid"):
            checks_content.decode_report(wrong)


def test_elements_are_put_where_their_tags_belong() -> None:
    parts = {tag: element(tag, b"CS", b"X") for tag in (0x00080060, 0x00100040, 0x0040A491)}
    between = element(0x0040A730, b"SQ", b"")
    text = element(0x0040A160, b"UT", b"long")
    data = spliced(parts[0x00080060] + text, {0x00100040: parts[0x00100040], 0x0040A730: between})
    assert data == parts[0x00080060] + parts[0x00100040] + text + between
