"""HTTP that lies, trickles or does not end: each gets one coded answer, nothing of it is kept, and the next caller is served."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.gates import Bench, bench
from tests.network.raw import PATIENT, STUDY
from tests.network.web import BOUNDARY, KIND, RULE, TOKEN, Caller, RawCaller, body_of, file_of

LISTEN = {"network_timeout_seconds": 1.0}
STOW = {"enabled": True, "port": 0, "head_seconds": 1.0, "idle_seconds": 1.0, "maximum_parts": 50}
PART = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    intake = {"minimum_bytes_per_second": 1000}
    stow = {**STOW, "maximum_request_bytes": 4 << 20}
    with bench(tmp_path_factory.mktemp("http"), 0, listen=LISTEN, stow=stow, peers=[RULE], intake=intake) as one:
        yield one


def address(made: Bench) -> tuple[str, int]:
    found = made.gate.web_address
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def _still_serves(made: Bench) -> Iterator[None]:
    """Whatever was done: the next caller is served, nobody is still in, and no log names the patient or the token."""
    yield
    with Caller(address(made)) as caller:
        assert caller.store(file_of(1)).status == 200
    opened, closed = made.log.facts("association.opened"), made.log.facts("association.closed")
    made.log.wait_for("association.closed", count=len(opened))
    assert len(opened) >= len(closed)
    log = repr(made.log.seen)
    assert PATIENT not in log
    assert STUDY not in log
    assert TOKEN not in log
    assert not made.log.facts("internal")


@pytest.mark.parametrize(
    ("data", "status", "kind"),
    [
        (b"\x01\x00\x00\x00\x00\xcd\x00\x01" * 8 + b"\r\n\r\n", 400, "http"),
        (b"GET\r\n\r\n", 400, "http"),
        (b"POST / HTTP/1.1\r\n\r\n", 400, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e9\r\n\r\n", 400, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "http-framing"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "http"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n", 400, "http-repeated-field"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000, 431, "http-head"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431, "http-head"),
        (b"POST /" + b"a" * 20_000, 431, "http-head"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(4000)), 431, "http-head"),
        (b"POST / HTTP/1.1\r\nHost: a\r\n folded\r\nX : y\r\n\r\n", 400, "http"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_what_is_no_http(made: Bench, data: bytes, status: int, kind: str) -> None:
    with RawCaller(address(made)) as caller:
        caller.send(data)
        answer = caller.answer()
        assert answer is not None
        assert (answer.status, answer.kind) == (status, kind)
        assert caller.rest() == b""


@pytest.mark.parametrize(
    ("header", "status", "kind"),
    [
        ({"Authorization": None}, 401, "caller"),
        ({"Authorization": "Bearer " + "x" * 43}, 401, "caller"),
        ({"Authorization": "Basic " + "x" * 43}, 401, "caller"),
        ({"Authorization": f"Bearer {TOKEN[:-1]}"}, 401, "caller"),
        ({"Authorization": "Bearer " + "ü" * 40}, 401, "caller"),
        ({"Content_Type": "application/json"}, 415, "media-type"),
        ({"Content_Type": 'multipart/related; type="application/dicom+json"; boundary=x'}, 415, "media-type"),
        ({"Content_Type": None}, 415, "media-type"),
        ({"Content_Encoding": "gzip"}, 415, "encoding"),
        ({"Content_Type": 'multipart/related; type="application/dicom"'}, 400, "boundary"),
        ({"Content_Type": f'multipart/related; type="application/dicom"; boundary={"x" * 201}'}, 400, "boundary"),
        ({"Content_Type": 'multipart/related; type="application/dicom"; boundary="a\\"b"'}, 400, "boundary"),
        ({"Accept": "text/html"}, 406, "accept"),
        ({"Content_Length": "0"}, 400, "no-parts"),
        ({"Content_Length": str(5 << 20)}, 413, "message-length"),
        ({"Content_Length": "9" * 19}, 413, "message-length"),
    ],
    ids=str,
)
def test_heads_that_are_refused_before_a_body_is_read(
    made: Bench, header: dict[str, str | None], status: int, kind: str
) -> None:
    with RawCaller(address(made)) as caller:
        fields: dict[str, str | None] = {"Content_Length": "100", "Expect": "100-continue", **header}
        lines = caller.lines(**fields)
        caller.send(lines.encode("latin-1"))
        answer = caller.answer()
        assert answer is not None
        assert (answer.status, answer.kind) == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/dicom-web/studies", 405),
        ("PUT", "/dicom-web/studies", 405),
        ("DELETE", f"/dicom-web/studies/{STUDY}", 405),
        ("OPTIONS", "/dicom-web/studies", 204),
        ("POST", "/", 404),
        ("POST", "/dicom-web/studies/../../etc/passwd", 404),
        ("POST", "/dicom-web/studies/1.2/series", 404),
        ("POST", f"/dicom-web/studies/{'1.' * 40}1", 404),
        ("POST", "/dicom-web/studiesx", 404),
    ],
)
def test_other_methods_and_places(made: Bench, method: str, path: str, status: int) -> None:
    with Caller(address(made)) as caller:
        answer = caller.ask(method, path, b"")
    assert answer.status == status
    assert ("Allow" in answer.header) == (status in (204, 405))


def test_nobody_without_a_token_learns_what_is_there(made: Bench) -> None:
    for method, path in (("GET", "/"), ("OPTIONS", "/dicom-web/studies"), ("POST", "/dicom-web/studies")):
        with Caller(address(made)) as caller:
            assert caller.ask(method, path, b"", Authorization=None).status == 401


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "body-cut"),
        (f"--{BOUNDARY}--\r\n".encode(), 400, "no-parts"),
        (b"no delimiter at all", 400, "body-cut"),
        (b"x" * 100_000, 400, "aside"),
        (PART + file_of(9), 400, "body-cut"),
        (f"--{BOUNDARY} x\r\n\r\n".encode(), 400, "boundary"),
        (f"--{BOUNDARY}".encode() + b" " * 200 + b"\r\n", 400, "boundary"),
        (f"--{BOUNDARY}\r\n".encode() + b"X: " + b"y" * 9000, 400, "part-head"),
        (f"--{BOUNDARY}\r\n".encode() + b"".join(b"X%d: y\r\n" % n for n in range(2000)), 400, "part-head"),
        (f"--{BOUNDARY}\r\nA: 1\r\nA: 2\r\n\r\n".encode(), 400, "part-head"),
        (f"--{BOUNDARY}\r\nno colon\r\n\r\n".encode(), 400, "part-head"),
        (f"--{BOUNDARY}\r\nContent-Type: text/html\r\n\r\n".encode(), 415, "media-type"),
        (body_of([b""] * 51), 413, "parts"),
        (body_of([file_of(9)]) + b"e" * 100_000, 400, "aside"),
    ],
    ids=["empty", "none", "text", "preamble", "cut", "behind", "spaces", "head", "heads", "twice", "colon", "type", "parts", "epilogue"],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_bodies_that_are_no_parts(made: Bench, body: bytes, status: int, kind: str, chunked: bool) -> None:
    before = len(made.log.facts("association.closed"))
    with RawCaller(address(made)) as caller:
        if chunked:
            caller.head(Transfer_Encoding="chunked")
            pieces = [body[start : start + 7000] for start in range(0, len(body), 7000)]
            caller.send(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        elif body:
            caller.head(Content_Length=str(len(body)))
            caller.send(body)
        else:
            caller.head(Content_Length="0")
            status, kind = 400, "no-parts"
        answer = caller.answer()
        assert answer is not None
        assert (answer.status, answer.kind) == (status, kind)
    if body:
        made.log.wait_for("association.closed", count=before + 1)


def test_chunks_that_lie(made: Bench) -> None:
    for data in (b"zz\r\n", b"5\r\nabcdefgh\r\n", b"-5\r\n", b"f" * 30 + b"\r\n", b"5;" + b"x" * 20_000):
        with RawCaller(address(made)) as caller:
            caller.head(Transfer_Encoding="chunked")
            caller.send(data)
            answer = caller.answer()
            assert answer is not None
            assert answer.status in (400, 413, 431)


def test_a_body_that_is_longer_than_may_be_is_not_read_on(made: Bench) -> None:
    with RawCaller(address(made)) as caller:
        caller.head(Transfer_Encoding="chunked")
        chunk = b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
        caller.send(b"%x\r\n%b\r\n" % (len(PART), PART))
        for _ in range(8):
            caller.send(chunk)
        answer = caller.answer()
        assert answer is not None
        assert (answer.status, answer.kind) == (413, "message-length")
    made.log.wait_for("stow.refused", kind="message-length", http=413)


def test_a_body_that_is_shorter_than_announced_ends_as_a_silence(made: Bench) -> None:
    before = len(made.log.facts("association.broken"))
    body = body_of([file_of(2)])
    with RawCaller(address(made)) as caller:
        caller.head(Content_Length=str(len(body) + 100))
        caller.send(body)
        answer = caller.answer()
    assert answer is not None
    assert answer.status == 408
    assert made.log.wait_for("association.broken", count=before + 1)[-1]["reason"] == "timeout"


@pytest.mark.parametrize("what", ["head", "body", "chunks", "nothing"])
def test_who_trickles_is_parted_with(made: Bench, what: str) -> None:
    """A byte now and then, each in time for the timeout: bounded all the same."""
    begun = time.monotonic()
    with RawCaller(address(made)) as caller:
        if what == "body":
            caller.head(Content_Length="100000")
        elif what == "chunks":
            caller.head(Transfer_Encoding="chunked")
        trickle = {"head": b"P", "body": b"x", "chunks": b"1\r\nx\r\n", "nothing": b""}[what]
        pause = threading.Event()
        while time.monotonic() - begun < 20 and (not trickle or caller.send(trickle)):
            if not trickle:
                caller.rest()
                break
            pause.wait(0.3)
    assert time.monotonic() - begun < 15


def test_single_bytes_in_chunks_are_too_dear(made: Bench) -> None:
    with RawCaller(address(made)) as caller:
        caller.head(Transfer_Encoding="chunked")
        caller.send(b"1\r\nx\r\n" * 20_000)
        answer = caller.answer()
        assert answer is not None
        assert (answer.status, answer.kind) == (400, "fragments-tiny")


def test_requests_one_behind_the_other_are_answered_one_behind_the_other(made: Bench) -> None:
    body = body_of([file_of(3)])
    with RawCaller(address(made)) as caller:
        lines = caller.lines(Content_Length=str(len(body))).encode()
        caller.send((lines + body) * 3)
        for _ in range(3):
            answer = caller.answer_of_many()
            assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_head_like_a_smuggled_request_within_an_object_is_an_object(made: Bench) -> None:
    body = body_of([file_of(4, pixels=b"\r\n\r\nPOST /dicom-web/studies HTTP/1.1\r\nHost: a\r\n\r\n" * 40)])
    with RawCaller(address(made)) as caller:
        caller.head(Content_Length=str(len(body)), Content_Type=KIND)
        caller.send(body)
        answer = caller.answer()
        assert answer is not None
        assert answer.status == 200


def test_memory_stays_flat_for_a_long_object(tmp_path: Path) -> None:
    """300 MB through one request: the process grows by far less."""
    with (
        bench(tmp_path, 0, stow=STOW, peers=[RULE], intake={"receivers": 0}) as made,
        RawCaller(address(made)) as caller,
    ):
        megabyte = bytes(1 << 20)
        head = PART + file_of(5, pixels=b"")[:-4] + (300 << 20).to_bytes(4, "little")
        tail = f"\r\n--{BOUNDARY}--\r\n".encode()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        caller.head(Content_Length=str(len(head) + (300 << 20) + len(tail)))
        caller.send(head)
        for _ in range(300):
            assert caller.send(megabyte)
        caller.send(tail)
        answer = caller.answer()
        assert answer is not None
        assert answer.status == 200
        (row,) = made.rows(count=1)
        assert row.length > 300 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024  # KiB
