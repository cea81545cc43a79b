"""Foreign senders of STOW-RS: dicomweb-client, Orthanc's plugin and curl; and our own requestor. Over TLS, too."""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.uid import generate_uid

from dicomnode.encoded import split_part10
from dicomnode.network.dicomweb import WebRequestor
from dicomnode.network.requestor import OutgoingObject
from dicomnode.sections import Destination, Tls
from tests import tools
from tests.contracts.gates import Bench, bench
from tests.journey.studies import write_study
from tests.neighbours import Orthanc
from tests.network.certificates import Authority, fingerprint
from tests.network.raw import associate_request
from tests.network.web import AUTHORIZED, HASH, RULE, TOKEN, Caller, file_of

STOW = {"enabled": True, "port": 0}


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path / "node", 1, stow=STOW, peers=[RULE]) as one:
        yield one


def url(made: Bench, scheme: str = "http") -> str:
    assert made.gate.web_address is not None
    host, port = made.gate.web_address
    return f"{scheme}://{host}:{port}/dicom-web"


def kept(made: Bench, study_instance_uid: str, count: int) -> list[bytes]:
    rows = made.rows(study_instance_uid, count)
    assert len({row.instance_key for row in rows}) == count
    return sorted(bytes(made.spool.read(row.study_key, row.address)[1]) for row in rows)


def data_sets(paths: list[Path]) -> list[bytes]:
    return sorted(bytes(split_part10(path.read_bytes())[1]) for path in paths)


def client(made: Bench, scheme: str = "http", verify: Any = True) -> DICOMwebClient:
    session = requests.Session()
    session.trust_env = False  # a bundle of this machine's would count more than `verify`
    session.verify = verify
    return DICOMwebClient(url(made, scheme), session=session, headers=AUTHORIZED)


def test_dicomweb_client_stores_a_series(made: Bench, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "client")
    told = client(made).store_instances([pydicom.dcmread(path) for path in paths], who.uid("study"))
    assert len(told.ReferencedSOPSequence) == len(paths)
    assert "FailedSOPSequence" not in told
    assert len(kept(made, who.uid("study"), len(paths))) == len(paths)


def test_dicomweb_client_hears_of_what_is_not_of_the_study(made: Bench, tmp_path: Path) -> None:
    paths, _ = write_study(tmp_path / "study", "other")
    with pytest.raises(requests.HTTPError) as caught:
        client(made).store_instances([pydicom.dcmread(paths[0])], generate_uid())
    assert caught.value.response.status_code == 409
    (failed,) = json.loads(caught.value.response.content)["00081198"]["Value"]
    assert failed["00081197"]["Value"] == [0xA900]


def test_orthanc_stores_a_study(made: Bench, tmp_path: Path) -> None:
    plugin = tools.require_file("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", setup="make setup")
    paths, who = write_study(tmp_path / "study", "orthanc")
    orthanc = Orthanc(tmp_path / "orthanc", plugins=[plugin]).start()
    try:
        orthanc.upload(paths)
        _put(orthanc, "/dicom-web/servers/node", {"Url": url(made), "HttpHeaders": AUTHORIZED})
        (study,) = orthanc.get("/studies")
        orthanc.post("/dicom-web/servers/node/stow", {"Resources": [study], "Synchronous": True})
    finally:
        orthanc.stop()
    assert kept(made, who.uid("study"), len(paths)) == data_sets(paths)


def _put(orthanc: Orthanc, path: str, body: Any) -> None:
    response = requests.put(f"http://127.0.0.1:{orthanc.http_port}{path}", json=body, timeout=30)
    response.raise_for_status()


def test_curl_in_chunks_and_with_a_length(made: Bench, tmp_path: Path) -> None:
    curl = tools.require("curl")
    paths, who = write_study(tmp_path / "study", "curl")
    for path, more in ((paths[0], ["-H", "Transfer-Encoding: chunked"]), (paths[1], [])):
        command = [curl, "-sS", "--data-binary", f"@{path}", "-H", "Content-Type: application/dicom", *more]
        command += ["-H", f"Authorization: Bearer {TOKEN}", "-w", "%{http_code}", f"{url(made)}/studies"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout.endswith("200")
    assert kept(made, who.uid("study"), 2) == data_sets(paths[:2])


def test_our_own_requestor(made: Bench, tmp_path: Path) -> None:
    paths, who = write_study(tmp_path / "study", "own")
    authorization = tmp_path / "authorization"
    authorization.write_text(AUTHORIZED["Authorization"])
    target = Destination.model_validate(
        {"name": "node", "url": url(made), "authorization_file": authorization, "timeout_seconds": 20}
    )
    requestor = WebRequestor(target)
    requestor.echo()
    objects = []
    for path in paths[:5]:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        objects.append(
            OutgoingObject(
                result_id=path.name,
                sop_class_uid=dataset.SOPClassUID,
                sop_instance_uid=dataset.SOPInstanceUID,
                transfer_syntax_uid=dataset.file_meta.TransferSyntaxUID,
                encoded=split_part10(path.read_bytes())[1],
            )
        )
    assert [(one.status, one.error) for one in requestor.store(objects)] == [(0, None)] * 5
    assert kept(made, who.uid("study"), 5) == data_sets(paths[:5])


def web_tls(tls: Tls, authority: Path | None) -> dict[str, Any]:
    return {
        "certificate": tls.certificate,
        "private_key": tls.private_key,
        "trusted_certificates": str(authority) if authority else None,
    }


def test_over_tls_with_a_token(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    stow = {**STOW, "tls": web_tls(authority.issue("node"), None)}
    paths, who = write_study(tmp_path / "study", "tls")
    with bench(tmp_path / "node", 1, stow=stow, peers=[RULE]) as made:
        session = client(made, "https", str(authority.path))
        session.store_instances([pydicom.dcmread(paths[0])])
        assert len(kept(made, who.uid("study"), 1)) == 1
        plain = requests.Session()
        with pytest.raises(requests.ConnectionError):
            plain.post(f"{url(made)}/studies", timeout=20)
        assert made.log.wait_for("connection.failed")[0]["kind"] == "not-tls"
        plain.close()


def test_a_certificate_lets_in_where_a_rule_asks_for_it(tmp_path: Path) -> None:
    """Whom the rule means, with no token; another of the same authority not; both where the rule asks for both."""
    authority = Authority(tmp_path)
    known, other = authority.issue("known"), authority.issue("other")
    stow = {**STOW, "tls": web_tls(authority.issue("node"), authority.path)}
    rules = [
        {"name": "both", "certificate_sha256": [fingerprint(other)], "token_sha256": [HASH]},
        {"name": "gateway", "certificate_sha256": [fingerprint(known)]},
        {"name": "anybody", "ae_title": "ANY"},
    ]

    def status(tls: Tls | None, token: str | None) -> int:
        context = ssl.create_default_context(cafile=str(authority.path))
        if tls is not None:
            context.load_cert_chain(tls.certificate, tls.private_key)
        assert made.gate.web_address is not None
        with Caller(made.gate.web_address, context) as caller:
            return caller.store(file_of(1), Authorization=token).status

    with bench(tmp_path / "node", 0, stow=stow, peers=rules, listen={"tls": None}) as made:
        assert status(known, None) == 200
        assert status(other, None) == 401
        assert status(None, None) == 401
        assert status(None, f"Bearer {TOKEN}") == 401
        assert status(other, f"Bearer {TOKEN}") == 200
        kinds = [one["kind"] for one in made.log.facts("peer.unknown")]
        assert kinds == ["certificate-unknown", "certificate-unknown", "certificate-unknown"]


def test_callers_have_names_for_rules_of_routing(tmp_path: Path) -> None:
    rules = [{"name": "research-gateway-of-the-trial", "token_sha256": [HASH]}]
    with bench(tmp_path, 1, stow=STOW, peers=rules) as made:
        assert made.gate.web_address is not None
        with Caller(made.gate.web_address) as caller:
            assert caller.store(file_of(1)).status == 200
        (row,) = made.rows(count=1)
        metadata, _ = made.spool.read(row.study_key, row.address)
        assert metadata.calling_ae_title == "RESEARCH-GATEWAY"
        assert (metadata.called_ae_title, metadata.peer_address) == ("DICOMNODE", "127.0.0.1")


def test_a_rule_with_a_token_opens_nothing_to_associations_and_closes_nothing(tmp_path: Path) -> None:
    """Its AE title alone is no token; and where no rule is of DIMSE, `listen` decides as before."""
    both = [{"name": "gateway", "ae_title": "SCANNER", "token_sha256": [HASH]}, {"name": "ct", "ae_title": "CT1"}]
    with bench(tmp_path / "one", 0, stow=STOW, peers=both) as made, made.connect() as peer:
        peer.send(associate_request(calling=b"SCANNER"))
        assert (peer.pdu() or (0,))[0] == 3
    with bench(tmp_path / "two", 0, stow=STOW, peers=both[:1]) as made:
        made.associate().release()
