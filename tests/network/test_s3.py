"""A bucket on a server that others wrote (moto): conditions, parts, encryption, and a server that is not there."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dicomnode.config import parse
from dicomnode.errors import PeerError, StudyError
from dicomnode.service.buckets import open_bucket
from dicomnode.storage.bucket import BucketShelf
from tests.network.s3 import BUCKET, KEY, SECRET, Moto

ENVIRONMENT = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    server = Moto(tmp_path_factory.mktemp("moto")).start()
    yield server
    server.stop()


def shelf(section: dict[str, Any], timeout: float = 5) -> BucketShelf:
    given = {"name": "trial", "project": "p1", "s3": section, "timeout_seconds": timeout}
    (export,) = parse({"exports": [given]}).exports
    assert export.s3 is not None
    return open_bucket(export, export.s3, ENVIRONMENT)


def equal(one: bytes, other: bytes) -> bool:
    return one == other


def test_a_small_object_and_one_in_parts(moto: Moto) -> None:
    one = shelf(moto.section(prefix="p", part_bytes=5 << 20, sse="AES256"))
    one.echo()
    small, large = b"small", hashlib.sha256(b"x").digest() * (12 << 15)
    assert len(large) > 10 << 20
    for uid, data in (("1.2.1", small), ("1.2.2", large)):
        assert one.write("1.2", uid, data, same=equal) is True
        assert one.write("1.2", uid, data, same=lambda *_: pytest.fail("the digest says it")) is False
        assert moto.objects()[f"p/1.2/{uid}.dcm"] == data
        _, header, _ = moto.ask("HEAD", f"/{BUCKET}/p/1.2/{uid}.dcm")
        assert header["x-amz-server-side-encryption"] == "AES256"
        assert header["content-type"] == "application/dicom"
        assert header["x-amz-meta-dicomnode-sha256"] == hashlib.sha256(data).hexdigest()
    _, header, _ = moto.ask("HEAD", f"/{BUCKET}/p/1.2/1.2.2.dcm")
    assert header["etag"].strip('"').endswith("-3"), "in three parts"
    _, _, uploads = moto.ask("GET", f"/{BUCKET}?uploads")
    assert b"<Upload>" not in uploads


class Recorder(BaseHTTPRequestHandler):
    """Takes whatever is put, and remembers how."""

    heads: ClassVar[list[dict[str, str]]] = []
    sizes: ClassVar[dict[str, int]] = {}

    def do_PUT(self) -> None:
        self.heads.append({name.lower(): value for name, value in self.headers.items()})
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_there = self.path in self.sizes
        self.sizes[self.path] = len(body)  # before the answer: its size is asked for over another connection
        self._answer(412 if is_there else 200)

    def do_HEAD(self) -> None:
        self._answer(200 if self.path in self.sizes else 404)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("ETag", '"x"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header(
            "Content-Length", str(self.sizes[self.path]) if self.command == "HEAD" and status == 200 else "0"
        )
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def test_the_server_is_told_what_to_check_and_how_to_keep_it() -> None:
    """SHA-256 of the object, no writing over, encryption; signed, and no secret among it."""
    Recorder.heads.clear()
    Recorder.sizes.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        section = {"bucket": BUCKET, "endpoint": f"http://127.0.0.1:{server.server_port}", "path_style": True}
        shelf({**section, "sse": "aws:kms", "kms_key_id": "key-7"}).write("1.2", "1.2.1", b"data", same=equal)
        shelf({**section, "checksums": False}).write("1.2", "1.2.2", b"data", same=equal)
        server.shutdown()
    checked, _, unchecked, _ = Recorder.heads  # each twice: the server is to show that it knows conditions
    assert checked["x-amz-checksum-sha256"] == base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    assert checked["if-none-match"] == "*"
    assert checked["x-amz-server-side-encryption"] == "aws:kms"
    assert checked["x-amz-server-side-encryption-aws-kms-key-id"] == "key-7"
    assert "x-amz-checksum-sha256" not in unchecked
    assert "x-amz-server-side-encryption" not in unchecked
    assert checked["authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert SECRET not in repr(Recorder.heads)


def test_another_content_stays(moto: Moto) -> None:
    one = shelf(moto.section(prefix="q"))
    one.write("1.2", "1.2.1", b"first", same=equal)
    with pytest.raises(StudyError, match="same-uid-other-content"):
        one.write("1.2", "1.2.1", b"other", same=equal)
    assert moto.objects()["q/1.2/1.2.1.dcm"] == b"first"


def test_a_bucket_that_is_not_there_and_a_server_that_is_not(moto: Moto, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="peer-rejected"):
        shelf({**moto.section(), "bucket": "nobodys"}).write("1.2", "1.2.1", b"x", same=equal)
    gone = Moto(tmp_path)
    with pytest.raises(PeerError, match=r"peer-unreachable|peer-aborted|timeout") as caught:
        shelf(gone.section(), timeout=1).write("1.2", "1.2.1", b"x", same=equal)
    assert caught.value.retryable
    assert SECRET not in str(caught.value)
