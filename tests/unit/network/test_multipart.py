"""Bodies of several parts: the same events however the bytes are cut, and one kind of error whatever they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomnode.network.multipart import Begin, Multipart, Piece, Single, Unacceptable

BOUNDARY = b"a.b"


def parts_of(pieces: Iterable[bytes], body: Multipart | Single | None = None) -> list[tuple[dict[str, str], bytes]]:
    """Parts with their headers."""
    body = body or Multipart(BOUNDARY)
    found: list[tuple[dict[str, str], bytearray]] = []
    open_ = 0

    def act(event: object) -> None:
        nonlocal open_
        if isinstance(event, Begin):
            assert open_ == 0
            found.append((dict(event.header), bytearray()))
            open_ = 1
        elif isinstance(event, Piece):
            assert open_ == 1
            assert len(event.data)
            found[-1][1].extend(event.data)
        else:
            open_ -= 1

    for piece in pieces:
        for event in body.feed(piece):
            act(event)
    for event in body.end():
        act(event)
    assert open_ == 0
    return [(header, bytes(data)) for header, data in found]


def written(parts: Sequence[bytes], *, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    body = preamble
    for number, part in enumerate(parts):
        body += b"\r\n" * (number > 0 or bool(preamble)) + b"--a.b\r\nContent-Type: application/dicom\r\n\r\n" + part
    return body + b"\r\n--a.b--" + epilogue


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


#: Bytes that look like delimiters and are none.
TRICKY = (
    st.lists(
        st.sampled_from(
            [b"\r\n", b"\r", b"\n", b"--", b"-", b"--a.", b"\r\n--a", b"\r\n--a.c", b"a.b", b"x", b"\0" * 9]
        )
    )
    .map(b"".join)
    .filter(lambda part: b"\r\n--a.b" not in part)
)


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(TRICKY, min_size=1, max_size=5), places=st.lists(st.integers(0, 5000), max_size=30))
def test_what_is_written_is_read_however_it_is_cut(parts: list[bytes], places: list[int]) -> None:
    data = written(parts)
    expected = [({"content-type": "application/dicom"}, part) for part in parts]
    assert parts_of([data]) == expected
    assert parts_of(cut(data, places)) == expected
    assert parts_of(bytes([one]) for one in data) == expected


@settings(max_examples=200, deadline=None)
@given(
    data=st.lists(st.sampled_from([b"--a.b", b"--a.b--", b"\r\n", b"\r\n\r\n", b"A: b", b" ", b"\xff", b"\0"])).map(
        b"".join
    )
)
def test_any_bytes_give_parts_or_one_error(data: bytes) -> None:
    def outcome(pieces: Iterable[bytes]) -> object:
        try:
            return parts_of(pieces)
        except Unacceptable as error:
            return error.what

    assert outcome([data]) == outcome(bytes([one]) for one in data)


def test_odd_but_lawful() -> None:
    assert parts_of([written([b"x"], preamble=b"This is a multi-part message.", epilogue=b"")]) == [
        ({"content-type": "application/dicom"}, b"x")
    ]
    data = (
        b"--a.b \t\r\nContent-Location:  a:b \r\nX-\xc3\xa4: 1".replace(b"X-\xc3\xa4: 1", b"X: \xc3\xa4")
        + b"\r\n\r\nx\r\n--a.b--  more"
    )
    assert parts_of([data]) == [({"content-location": "a:b", "x": "\xc3\xa4"}, b"x")]
    assert parts_of([b"--a.b\r\n\r\nx\r\n--a.b--"]) == [({}, b"x")]


@pytest.mark.parametrize("boundary", [b"", b"x" * 201, b"a\r\nb", b"end ", b'a"b', b"\xff"])
def test_what_can_be_no_boundary(boundary: bytes) -> None:
    with pytest.raises(Unacceptable, match="peer-protocol") as caught:
        Multipart(boundary)
    assert (caught.value.http, caught.value.what) == (400, "boundary")


def test_little_is_held_between_two_pieces() -> None:
    body = Multipart(BOUNDARY)
    list(body.feed(b"--a.b\r\n\r\n"))
    for _ in range(100):
        list(body.feed(bytes(100_000)))
        assert len(body._kept) < 10


def test_a_body_that_is_one_object() -> None:
    assert parts_of([b"ab", b"", b"c"], Single()) == [({}, b"abc")]
    assert parts_of([], Single()) == []


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"--a.b x\r\n\r\n", "boundary"),
        (b"--a.bc\r\n\r\n", "boundary"),
        (b"--a.b" + b" " * 200, "boundary"),
        (b"x" * 70_000, "aside"),
        (b"--a.b--" + b"x" * 70_000, "aside"),
        (b"--a.b\r\nno colon\r\n\r\n", "part-head"),
        (b"--a.b\r\nA: 1\r\na: 2\r\n\r\n", "part-head"),
        (b"--a.b\r\n" + b"A: 1" * 3000, "part-head"),
        (b"--a.b\r\n\r\nx", "body-cut"),
        (b"", "body-cut"),
    ],
)
def test_what_are_no_parts(data: bytes, what: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        parts_of([data])
    assert (caught.value.http, caught.value.what) == (400, what)


def test_a_boundary_as_long_as_those_of_orthanc() -> None:
    """Two UUIDs: 73 characters, where RFC 2046 has 70."""
    boundary = b"26aa011d-b8e0-443c-af4d-9a5db77a6b61-26aa011d-b8e0-443c-af4d-9a5db77a6b61"
    body = b"--" + boundary + b"\r\n\r\nx\r\n--" + boundary + b"--"
    assert parts_of([body], Multipart(boundary)) == [({}, b"x")]
