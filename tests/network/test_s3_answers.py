"""What becomes of the answers of an S3 server, as the library itself tells of them: statuses, silence, lies, no conditions."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dicomnode.errors import PeerError, PeerRefusal, StudyError
from dicomnode.storage.bucket import BucketPlace, BucketShelf, Credentials

SECRET = "planted-secret-access-key"
NAME = "/b/p/1.2/1.2.3.dcm"


class Server(ThreadingHTTPServer):
    """Keeps what is put; `status` of every PUT if it is given, `ways` in which it is no S3."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status: int | None = None
        self.said = b""
        self.ways: set[str] = set()
        self.kept: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []
        self.released = threading.Event()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("ETag", '"x"')
        if 300 <= status < 400:
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        server = self.server
        server.asked.append((self.command, self.path))
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if "silent" in server.ways:
            server.released.wait(30)
        elif server.status is not None:
            self._answer(server.status, server.said)
        elif self.path in server.kept and self.headers["If-None-Match"] and "no-conditions" not in server.ways:
            self._answer(412)
        else:
            if "lies" not in server.ways:
                server.kept[self.path] = data
            self._answer(200)

    def do_HEAD(self) -> None:
        self.server.asked.append((self.command, self.path))
        found = self.server.kept.get(self.path)
        self._answer(404) if found is None else self._answer(200, found)

    do_GET = do_HEAD  # noqa: N815 (the library wants the name)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.released.set()
    made.shutdown()
    thread.join()
    made.server_close()


def shelf(port: int) -> BucketShelf:
    place = BucketPlace(
        bucket="b", prefix="p", region="r", endpoint=f"http://127.0.0.1:{port}", path_style=True, sse=None,
        kms_key_id=None, checksums=True, part_bytes=6 << 20, timeout_seconds=1.0,
    )  # fmt: skip
    return BucketShelf(place, lambda: Credentials(access_key_id="a", secret_access_key=SECRET))


def write(one: BucketShelf, uid: str = "1.2.3", data: bytes = b"ours") -> bool:
    return one.write("1.2", uid, data, same=lambda first, second: first == second)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 405, 501])
def test_what_will_not_change_is_a_refusal(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(PeerRefusal, match="peer-rejected") as caught:
        write(shelf(server.server_port))
    assert not caught.value.retryable
    assert SECRET not in repr(caught.value)


@pytest.mark.parametrize(
    ("status", "said", "code"),
    [
        (413, b"", "peer-refused-object"),
        (414, b"<html>", "peer-refused-object"),
        (400, b"<Error><Code>EntityTooLarge</Code></Error>", "peer-refused-object"),
        (400, b"<Error><Code>KeyTooLongError</Code></Error>", "peer-refused-object"),
        (400, b"<Error><Code>ExpiredToken</Code></Error>", "peer-rejected"),
        (403, b"<Error><Code>EntityTooLarge</Code></Error>", "peer-rejected"),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", "peer-rejected"),
    ],
)
def test_what_is_wrong_with_one_object_is_told_from_what_is_wrong_with_the_bucket(
    server: Server, status: int, said: bytes, code: str
) -> None:
    server.status, server.said = status, said
    with pytest.raises(PeerRefusal, match=code) as caught:
        write(shelf(server.server_port))
    assert not caught.value.retryable


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_what_may_change_is_tried_again(server: Server, status: int) -> None:
    server.status = status
    with pytest.raises(PeerError, match="peer-aborted") as caught:
        write(shelf(server.server_port))
    assert caught.value.retryable


def test_silence_and_nobody(server: Server) -> None:
    server.ways.add("silent")
    with pytest.raises(PeerError, match="timeout"):
        write(shelf(server.server_port))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(PeerError, match="peer-unreachable"):
            write(shelf(free.getsockname()[1]))


def test_a_success_that_was_none_is_none(server: Server) -> None:
    server.ways.add("lies")
    with pytest.raises(PeerError, match="peer-aborted"):
        write(shelf(server.server_port))


@pytest.mark.parametrize("ways", [set(), {"no-conditions"}])
def test_nothing_is_written_over_whatever_the_server_knows(server: Server, ways: set[str]) -> None:
    server.ways = ways
    one = shelf(server.server_port)
    server.kept[NAME] = b"somebody else's"
    with pytest.raises(StudyError, match="same-uid-other-content"):
        write(one)
    assert write(one, "1.2.4")
    server.kept["/b/p/1.2/1.2.5.dcm"] = b"theirs, too"
    with pytest.raises(StudyError, match="same-uid-other-content"):
        write(one, "1.2.5")
    assert server.kept[NAME] == b"somebody else's"
    assert server.kept["/b/p/1.2/1.2.5.dcm"] == b"theirs, too"


def test_a_server_that_knows_conditions_is_asked_for_names_once(server: Server) -> None:
    one = shelf(server.server_port)
    assert write(one, "1.2.4")
    server.asked.clear()
    assert write(one, "1.2.5")
    assert [method for method, _ in server.asked] == ["PUT", "HEAD"]  # the second looks whether it is there
