"""Sources that are asked by DICOMweb, and refuse, lie or send what is none."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dicomnode.encoded import Limits, encode_part10
from dicomnode.errors import PeerError
from dicomnode.network.retrieval import Allowance, Taking, Wanted
from dicomnode.network.wado import WebRetriever
from dicomnode.source_sections import Source
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object

Answer = tuple[int, str, bytes]
BOUNDARY = "0123456789abcdef"
KIND = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def parts(*contents: bytes) -> bytes:
    body = b"".join(
        b"--" + BOUNDARY.encode() + b"\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in contents
    )
    return body + b"--" + BOUNDARY.encode() + b"--\r\n"


def file(uid: str, **uids: str) -> bytes:
    return encode_part10(small_object(uid, **uids), transfer_syntax_uid=EXPLICIT_LITTLE)


@contextmanager
def web(answer: Callable[[str], Answer]) -> Iterator[int]:
    """A server whose series has the images 1.1 and 1.2; `answer` says what comes of each."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.partition("?")[0].endswith("/instances"):
                listed = [{"00080018": {"vr": "UI", "Value": [uid]}} for uid in ("1.1", "1.2")]
                status, kind, body = 200, "application/dicom+json", json.dumps(listed).encode()
            else:
                status, kind, body = answer(self.path.rpartition("/")[2])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def ask(port: int, *, seconds: float = 20, size: int = 1 << 20) -> tuple[Taking, PeerError | None]:
    retriever = WebRetriever(
        Source.model_validate({"name": "web", "url": f"http://127.0.0.1:{port}/dicom-web", "timeout_seconds": 5})
    )
    wanted = Wanted(study_instance_uid="1.2.3", series_instance_uid="1.2.3.1", sop_classes=(SECONDARY_CAPTURE,))
    allowance = Allowance(objects=10, size=size, until=time.monotonic() + seconds, monotonic=time.monotonic)
    taking = Taking(wanted, lambda one: None, allowance=allowance, limits=Limits())
    try:
        retriever.retrieve(taking)
    except PeerError as error:
        return taking, error
    return taking, None


def test_each_image_comes_by_itself() -> None:
    with web(lambda uid: (200, KIND, parts(file(uid)))) as port:
        taking, error = ask(port)
    assert (taking.taken, taking.strange, error) == (2, 0, None)


def test_others_than_were_asked_for_are_strange() -> None:
    with web(lambda uid: (200, KIND, parts(file("1.1"), file("1.9", study_instance_uid="9.9")))) as port:
        taking, error = ask(port)
    assert (taking.taken, taking.strange, error) == (1, 3, None)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (404, None, None),  # gone meanwhile
        (401, "peer-rejected", False),
        (406, "retrieval-refused", False),
        (418, "retrieval-refused", False),
        (503, "peer-out-of-resources", True),
    ],
)
def test_what_it_says(status: int, code: str | None, retryable: bool | None) -> None:
    with web(lambda uid: (status, "text/plain", b"no")) as port:
        taking, error = ask(port)
    assert (taking.taken, error.code if error else None, error.retryable if error else None) == (0, code, retryable)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/dicom", file("1.1")),  # no multipart
        ("multipart/related", parts(file("1.1"))),  # no boundary
        (KIND, b"--0123456789abcdef\r\n"),  # cut
        (KIND, parts(file("1.1"))[:-6]),
        (KIND, b"--0123456789abcdef\r\nno end of head\r\n--0123456789abcdef--"),
        (KIND, parts(b"no DICOM")),
        (KIND, parts(*[b"x"] * 100)),
    ],
)
def test_what_is_no_answer_is_none(kind: str, body: bytes) -> None:
    with web(lambda uid: (200, kind, body)) as port:
        taking, error = ask(port)
    assert (taking.taken, error.code if error else None) == (0, "peer-aborted")


def test_it_has_its_time() -> None:
    def slow(uid: str) -> Answer:
        time.sleep(1.0 if uid == "1.1" else 0)
        return 200, KIND, parts(file(uid))

    with web(slow) as port:
        taking, error = ask(port, seconds=0.5)
    assert (taking.taken, error.code if error else None) == (0, "timeout")


def test_no_more_is_read_than_may_come() -> None:
    with web(lambda uid: (200, KIND, parts(b"\0" * (3 << 20)))) as port:
        taking, error = ask(port, size=1 << 20)
    assert (taking.taken, error.code if error else None) == (0, "peer-aborted")
