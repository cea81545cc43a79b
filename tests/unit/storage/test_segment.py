"""The format of a segment, byte by byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage import segment
from dicomnode.storage.segment import Close, Header, Prefix
from dicomnode.study import Purpose
from tests.unit.storage.samples import STUDY, metadata

ID = "12" * 16
HEADER = Header(segment_id=ID, study_key=STUDY, alignment=4096)


def test_header() -> None:
    packed = segment.pack_header(HEADER)
    expected = b"DNSEGMNT" + struct.pack(">IIB", 1, 4096, 32) + STUDY.encode() + bytes(32) + ID.encode()
    assert packed == expected + bytes(4096 - len(expected))
    assert segment.parse_header(packed) == HEADER


def change(offset: int, value: bytes) -> bytes:
    packed = bytearray(segment.pack_header(HEADER))
    packed[offset : offset + len(value)] = value
    return bytes(packed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(4096),
        change(0, b"X"),
        change(8, struct.pack(">I", 2)),
        change(12, struct.pack(">I", 4095)),
        change(12, struct.pack(">I", 256)),
        change(12, struct.pack(">I", 1 << 21)),
        change(12, struct.pack(">I", 0)),
        change(17, b"\xff"),
    ],
)
def test_what_is_no_header(data: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        segment.parse_header(data)
    assert caught.value.code == "sealed-damaged"


@pytest.mark.parametrize("closing", [True, False])
def test_prefix(closing: bool) -> None:
    prefix = Prefix(segment_id=ID, number=7, sealed_bytes=9000, closing=closing)
    packed = prefix.packed()
    assert packed == (b"DNCL" if closing else b"DNRC") + ID.encode() + struct.pack(">IQ", 7, 9000)
    assert segment.parse_prefix(packed + b"more", ID) == prefix
    assert prefix.padded(4096) == 12288
    assert segment.parse_prefix(packed[:-1], ID) is None
    assert segment.parse_prefix(packed, "34" * 16) is None
    assert segment.parse_prefix(b"DNXX" + packed[4:], ID) is None


def test_what_a_record_is_bound_to() -> None:
    context = segment.context(STUDY, ID, 7)
    assert (context.study_key, context.object_id, context.purpose) == (STUDY, f"{ID}:7", Purpose.RECORD)
    assert segment.context(STUDY, ID, 7, closing=True).purpose is Purpose.CLOSE_RECORD


def test_metadata() -> None:
    found = metadata(b"1234", 3)
    tail = segment.pack_metadata(found)
    assert segment.parse_metadata(b"1234" + tail, 4 + len(tail)) == found
    assert segment.parse_metadata(tail, 4 + len(tail)) == found


def test_metadata_are_json_as_the_library_writes_it() -> None:
    from dataclasses import asdict, replace

    found = replace(metadata(b"1234", 3), calling_ae_title='A"B\\C\x1f\u00e9')
    plain = {**asdict(found), "received_at": found.received_at.isoformat()}
    encoded = json.dumps(plain, separators=(",", ":"), sort_keys=True).encode()
    assert segment.pack_metadata(found) == encoded + struct.pack(">I", len(encoded))


def plain(**changes: object) -> bytes:
    tail = segment.pack_metadata(metadata(b""))[:-4]
    return json.dumps({**json.loads(tail), **changes}).encode()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"123",
        lambda: struct.pack(">I", 1),
        lambda: struct.pack(">I", 0),
        lambda: b"[]" + struct.pack(">I", 2),
        lambda: b"{}" + struct.pack(">I", 2),
        lambda: b"\xff\xff" + struct.pack(">I", 2),
        lambda: plain(other=1) + struct.pack(">I", len(plain(other=1))),
        lambda: plain(received_at="soon") + struct.pack(">I", len(plain(received_at="soon"))),
        lambda: plain(length=1) + struct.pack(">I", len(plain(length=1))),
    ],
)
def test_what_are_no_metadata(make: Callable[[], bytes]) -> None:
    with pytest.raises(StorageError) as caught:
        segment.parse_metadata(make(), len(make()))
    assert caught.value.code == "sealed-damaged"


def test_metadata_have_a_bound() -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="too long"):
        segment.pack_metadata(replace(metadata(b""), peer_address="x" * 70_000))


def test_close_record() -> None:
    close = Close(records=3, digest="ab")
    assert segment.pack_close(close) == b'{"digest":"ab","records":3}'
    assert segment.parse_close(segment.pack_close(close)) == close
    for data in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(StorageError):
            segment.parse_close(data)


def test_the_chain_tells_order_and_content() -> None:
    def digest(*records: tuple[bytes, bytes]) -> str:
        chain = segment.Chain()
        for prefix, tag in records:
            chain.add(prefix, tag)
        return chain.digest()

    one, two = (b"prefix1", bytes(16)), (b"prefix2", bytes([1] * 16))
    assert len({digest(), digest(one), digest(one, two), digest(two, one)}) == 4
    with pytest.raises(ValueError, match="tag"):
        segment.Chain().add(b"", b"short")
