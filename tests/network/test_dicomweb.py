"""DICOMweb destinations: Orthanc's, and some that refuse, stall, trickle or lie."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import ConfigErrors, parse
from dicomnode.encoded import encode_part10
from dicomnode.errors import PeerError
from dicomnode.network.dicomweb import WebRequestor
from dicomnode.network.requestor import OutgoingObject
from dicomnode.sections import Destination
from dicomnode.workflow.delivery import outgoing as of_sealed
from dicomnode.workflow.verdicts import holds
from tests import tools
from tests.descriptors import descriptors
from tests.neighbours import Orthanc
from tests.network.certificates import make_tls
from tests.network.test_stalled_destinations import Stalling, destination, in_time, outgoing
from tests.unit.workflow.samples import EXPLICIT, tiny_series

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"
UID = "1.2.3.1"


def requestor(port: int, timeout: float = 0.5, **more: Any) -> WebRequestor:
    given = {"name": "web", "url": f"http://127.0.0.1:{port}/dicom-web/", "timeout_seconds": timeout, **more}
    return WebRequestor(Destination.model_validate(given))


def request_of(peer: Stalling) -> tuple[bytes, bytes]:
    """Head and body of a request."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = peer.socket.recv(65536)
        assert more
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(one.split(b":")[1]) for one in head.split(b"\r\n") if one.startswith(b"Content-Length")), 0)
    while len(body) < length:
        body += peer.socket.recv(65536)
    return head, body


def answer(status: int, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def said(*, stored: dict[str, int] | None = None, failed: dict[str, int] | None = None) -> bytes:
    def items(values: dict[str, int], tag: str) -> dict[str, Any]:
        return {
            "vr": "SQ",
            "Value": [
                {"00081155": {"vr": "UI", "Value": [uid]}, **({tag: {"vr": "US", "Value": [code]}} if code else {})}
                for uid, code in values.items()
            ],
        }

    told = {"00081199": items(stored or {}, "00081196"), "00081198": items(failed or {}, "00081197")}
    return json.dumps(told).encode()


def answering(*answers: bytes) -> Callable[[Stalling], None]:
    def script(peer: Stalling) -> None:
        for one in answers:
            request_of(peer)
            peer.send(one)

    return script


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        (answer(200), 0x0000, None),
        (answer(200, said(stored={UID: 0})), 0x0000, None),
        (answer(202, said(stored={UID: 0xB000})), 0xB000, None),
        (answer(202, said(failed={UID: 0xA700})), 0xA700, "peer-out-of-resources"),
        (answer(409, said(failed={UID: 0xA900})), 0xA900, "peer-refused-object"),
        (answer(409, said(failed={UID: 0x0111})), 0x0111, "peer-refused-object"),
        (answer(409, said(failed={UID: 0x0122})), 0x0122, "peer-refused-object"),
        (answer(409, said(failed={UID: 0})), None, "peer-refused-object"),
        (answer(409, said(failed={UID: -5})), None, "peer-refused-object"),
        (answer(409), None, "peer-refused-object"),
        (answer(202, said(stored={"1.2.9": 0})), None, "peer-aborted"),
        (answer(202), None, "peer-aborted"),
        (answer(202, b"[1]"), None, "peer-aborted"),
        (answer(202, b"[" * 100_000), None, "peer-aborted"),
        (answer(202, b'{"00081198": 5, "00081199": {"Value": 7}}'), None, "peer-aborted"),
        (answer(413), None, "peer-refused-object"),
        (answer(401), None, "peer-rejected"),
        (answer(404), None, "peer-rejected"),
        (answer(301), None, "peer-rejected"),
        (answer(418), None, "peer-rejected"),
        (answer(503), None, "peer-out-of-resources"),
        (answer(429), None, "peer-out-of-resources"),
        (b"\xff" * 500 + b"\r\n", None, "peer-aborted"),
        (b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\n1", None, "timeout"),
        (b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 1000, None, "peer-aborted"),
    ],
)
def test_what_an_answer_says_of_an_object(reply: bytes, status: int | None, code: str | None) -> None:
    before = descriptors("socket:")
    with destination(answering(reply)) as port:
        (outcome,) = in_time(lambda: requestor(port).store([outgoing(1, 100)]))
    assert (outcome.result_id, outcome.status, outcome.error and outcome.error.code) == ("r1", status, code)
    assert descriptors("socket:") <= before


def test_one_object_that_is_refused_stops_no_other_and_all_go_over_one_connection() -> None:
    replies = (answer(200), answer(409, said(failed={"1.2.3.2": 0xC000})), answer(413), answer(200))
    with destination(answering(*replies)) as port:
        outcomes = requestor(port, 10).store([outgoing(number, 100) for number in range(1, 5)])
    assert [one.status for one in outcomes] == [0, 0xC000, None, 0]
    assert [one.result_id for one in outcomes] == ["r1", "r2", "r3", "r4"]


def test_what_went_before_a_fault_stands() -> None:
    with destination(answering(answer(200), answer(503))) as port:
        outcomes = requestor(port, 10).store([outgoing(number, 100) for number in range(1, 4)])
    assert [one.status for one in outcomes] == [0, None, None]
    assert [one.error and one.error.code for one in outcomes] == [None] + ["peer-out-of-resources"] * 2


STALLS: dict[str, Callable[[Stalling], object]] = {
    "says nothing": request_of,
    "reads nothing": lambda peer: None,
    "half a head": lambda peer: (request_of(peer), peer.send(b"HTTP/1.1 20")),
    "a byte now and then": lambda peer: (request_of(peer), peer.send(b"HTTP/1.1 200 X\r\nA: "), peer.drip(b"a", 0.2)),
    "an endless body": lambda peer: (
        request_of(peer),
        peer.send(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"),
        peer.drip(b"1\r\na\r\n", 0.1),
    ),
}


@pytest.mark.parametrize("what", STALLS)
def test_a_server_that_stalls_is_given_up_in_time(what: str) -> None:
    before = descriptors("socket:")
    with destination(STALLS[what]) as port:
        outcomes = in_time(lambda: requestor(port).store([outgoing(1), outgoing(2, 100)]))
    assert [one.error.code for one in outcomes] == ["timeout"] * 2
    assert descriptors("socket:") <= before


def test_a_slow_line_is_no_stall() -> None:
    def slowly(peer: Stalling) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += peer.socket.recv(1)
        left = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
        while left > 0:
            time.sleep(0.03)
            left -= len(peer.socket.recv(32768))
        peer.send(answer(200))

    with destination(slowly) as port:
        begun = time.monotonic()
        (outcome,) = requestor(port).store([outgoing(1, 3_000_000)])
    assert outcome.status == 0
    assert time.monotonic() - begun > 2


def test_nobody_there_and_a_port_that_speaks_no_tls(tmp_path: Path) -> None:
    with destination(lambda peer: None) as port:
        pass
    (outcome,) = requestor(port).store([outgoing(1, 100)])
    assert outcome.error is not None
    assert outcome.error.code == "peer-unreachable"
    tls = make_tls(tmp_path)
    with destination(lambda peer: peer.send(b"no TLS here")) as port:
        secure = requestor(port, url=f"https://127.0.0.1:{port}/x", tls=tls.model_dump())
        with pytest.raises(PeerError) as caught:
            secure.echo()
    assert caught.value.code == "tls-failed"


def test_mutual_tls_and_an_authorization_that_is_read_anew(tmp_path: Path) -> None:
    tls, token, heads = make_tls(tmp_path), tmp_path / "token", list[bytes]()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.private_key)
    context.load_verify_locations(tls.trusted_certificates)
    context.verify_mode = ssl.CERT_REQUIRED

    def script(peer: Stalling) -> None:
        peer.socket = context.wrap_socket(peer.socket, server_side=True)
        heads.append(request_of(peer)[0])
        peer.send(answer(200))

    with destination(script) as port:
        secure = requestor(
            port, 10, url=f"https://127.0.0.1:{port}/x", tls=tls.model_dump(), authorization_file=str(token)
        )
        with pytest.raises(PeerError) as caught:
            secure.echo()
        assert caught.value.code == "peer-rejected", "the file is not there"
        for word in ("Bearer one", "Basic two\n"):
            token.write_text(word)
            secure.echo()
    assert [b"Authorization: Bearer one" in heads[0], heads[1].endswith(b"Authorization: Basic two")] == [True, True]


@pytest.mark.parametrize(
    ("status", "code"), [(200, None), (204, None), (404, None), (401, "peer-rejected"), (503, "peer-out-of-resources")]
)
def test_whoever_answers_is_there(status: int, code: str | None) -> None:
    with destination(answering(answer(status))) as port:
        if code is None:
            requestor(port).echo()
            return
        with pytest.raises(PeerError) as caught:
            requestor(port).echo()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        (answer(204), []),
        (answer(200), []),
        (
            answer(200, b'[{"00080018": {"vr": "UI", "Value": ["1.2"]}, "x": 1, "00080005": {}}, 7]'),
            [{"SOPInstanceUID": "1.2", "SpecificCharacterSet": ""}, {}],
        ),
        (
            answer(200, b'[{"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Phonetic": "D"}]}}]'),
            [{"PatientName": "Doe^Jane==D"}],
        ),
        (answer(200, b"{}"), "peer-aborted"),
        (answer(503), "peer-out-of-resources"),
        (answer(404), "peer-rejected"),
    ],
)
def test_what_is_found(reply: bytes, found: list[dict[str, str]] | str) -> None:
    with destination(answering(reply)) as port:
        if not isinstance(found, str):
            assert requestor(port).find("STUDY", {"StudyInstanceUID": "1.2 3&x", "PatientID": ""}) == found
            return
        with pytest.raises(PeerError) as caught:
            requestor(port).find("STUDY", {"StudyInstanceUID": "1.2"})
    assert caught.value.code == found


def page(first: int, count: int, *, more: bool = False) -> bytes:
    items = [{"00080018": {"vr": "UI", "Value": [f"1.2.{first + number}"]}} for number in range(count)]
    body = json.dumps(items).encode()
    warning = "Warning: 299 dicom: Additional results can be requested\r\n" if more else ""
    return f"HTTP/1.1 200 X\r\n{warning}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("pages", "found"),
    [
        ([page(0, 16)], 16),
        ([page(0, 7, more=True), page(7, 7, more=True), page(14, 2)], 16),
        ([page(0, 10), page(10, 6)], 16),
        ([page(0, 10), page(10, 10), answer(204)], 20),
        ([page(0, 10), page(0, 10)], 10),
        ([page(0, 10), answer(400)], 10),
        ([page(0, 7, more=True), page(0, 7, more=True)], "peer-aborted"),
        ([page(0, 7, more=True), answer(400)], "peer-refused-object"),
        ([page(0, 7, more=True), answer(503)], "peer-out-of-resources"),
    ],
    ids=["one", "said", "unsaid", "even", "offset-ignored", "offset-refused", "lies", "cut", "busy"],
)
def test_an_answer_of_several_pages_is_asked_for_to_its_end(pages: list[bytes], found: int | str) -> None:
    targets: list[str] = []

    def script(peer: Stalling) -> None:
        for one in pages:
            targets.append(request_of(peer)[0].split()[1].decode())
            peer.send(one)

    with destination(script) as port:
        if isinstance(found, int):
            shown = requestor(port).find("IMAGE", {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"})
            assert [one["SOPInstanceUID"] for one in shown] == [f"1.2.{number}" for number in range(found)]
        else:
            with pytest.raises(PeerError) as caught:
                requestor(port).find("IMAGE", {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3"})
            assert caught.value.code == found
    assert len(targets) == len(pages)
    assert "offset" not in targets[0]
    assert all("offset=" in one for one in targets[1:])


PLACE = {"name": "web", "url": "https://pacs.example.org/dicom-web"}


def test_a_place_is_that_of_its_address() -> None:
    (one,) = parse({"destinations": [PLACE]}).destinations
    assert (one.host, one.port, one.peer) == ("pacs.example.org", 443, PLACE["url"])
    (other,) = parse({"destinations": [{**PLACE, "url": "http://[::1]:8042"}]}).destinations
    assert (other.host, other.port) == ("::1", 8042)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"url": "ftp://x"}, "an address such as"),
        ({"url": "https://x?y"}, "an address such as"),
        ({"url": "https://user:secret@x/y"}, "an address without a user"),
        ({"url": "https://x:99999/"}, ""),
        ({"url": "http://far/x", "authorization_file": "/x"}, "authorization_file needs https"),
        ({"url": None, "ae_title": "X", "host": "h", "port": 1, "authorization_file": "/x"}, "is for a url"),
        ({"storage_commitment": True}, "DICOMweb has none"),
    ],
)
def test_an_address_that_is_none_is_said(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({"destinations": [{**PLACE, **changes}]})
    assert problem in " ".join(caught.value.problems)
    assert "secret" not in " ".join(caught.value.problems)


@pytest.mark.slow
def test_orthanc_takes_by_stow_and_shows_by_qido(tmp_path: Path) -> None:
    plugin = tools.require_file(PLUGIN, setup="make setup")
    orthanc = Orthanc(tmp_path / "orthanc", plugins=[plugin]).start()
    try:
        web = requestor(orthanc.http_port, 20)
        web.echo()
        images = tiny_series(seed="stow")[:2]
        objects: list[OutgoingObject] = [
            of_sealed(f"r{number}", encode_part10(image, transfer_syntax_uid=EXPLICIT))
            for number, image in enumerate(images)
        ]
        assert [holds(web, one) for one in objects] == [False, False]
        assert [one.status for one in web.store(objects[:1])] == [0]
        assert [holds(web, one) for one in objects] == [True, False]
        assert [one.status for one in web.store(objects)] == [0, 0], "the same again, too"
        study = {"StudyInstanceUID": str(images[0].StudyInstanceUID), "SeriesInstanceUID": ""}
        assert [one["SeriesInstanceUID"] for one in web.find("SERIES", study)] == [str(images[0].SeriesInstanceUID)]
        assert len(orthanc.instances()) == 2
        bad = outgoing(9, 100)
        (outcome,) = web.store([bad])
        assert outcome.error is not None
        assert outcome.error.code in ("peer-refused-object", "peer-aborted")
    finally:
        orthanc.stop()
