"""STOW-RS as rules: what may be asked for, and what the answers say."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from dicomnode.network.multipart import Multipart, Single, Unacceptable
from dicomnode.network.stow import JSON, XML, Outcome, asked, http_status, is_dicom, report, study_of, token_of

RELATED = 'multipart/related; type="application/dicom"; boundary=abc'
TAKEN = Outcome("1.2.840.10008.5.1.4.1.1.2", "1.2.3", 0)
FAILED = Outcome("1.2.840.10008.5.1.4.1.1.2", "1.2.4", 0xA900)
FULL = Outcome("1.2.840.10008.5.1.4.1.1.2", "1.2.5", 0xA700)
NAMELESS = Outcome("", "", 0xC000)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([], 400),
        ([TAKEN], 200),
        ([TAKEN, FAILED], 202),
        ([TAKEN, FULL], 202),
        ([FAILED, NAMELESS], 409),
        ([FULL, FAILED], 409),
        ([FULL, FULL], 503),
    ],
)
def test_status_of_an_answer(outcomes: list[Outcome], status: int) -> None:
    assert http_status(outcomes) == status


def test_report_in_json() -> None:
    told = json.loads(report([TAKEN, FAILED, NAMELESS], JSON))
    (stored,), (failed,), (other,) = (told[tag]["Value"] for tag in ("00081199", "00081198", "0008119A"))
    assert stored["00081155"] == {"vr": "UI", "Value": ["1.2.3"]}
    assert "00081197" not in stored
    assert failed["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    assert failed["00081197"] == {"vr": "US", "Value": [0xA900]}
    assert other == {"00081197": {"vr": "US", "Value": [0xC000]}}
    assert set(json.loads(report([TAKEN], JSON))) == {"00081190", "00081199"}


def test_report_in_xml() -> None:
    root = ET.fromstring(report([TAKEN, FAILED, Outcome("", "1.2.9", 0xC000)], XML))
    assert root.tag == "NativeDicomModel"
    found = {
        sequence.get("keyword"): [
            {one.get("keyword"): one.findtext("Value") for one in item} for item in sequence.findall("Item")
        ]
        for sequence in root
        if sequence.get("vr") == "SQ"
    }
    assert found == {
        "FailedSOPSequence": [
            {
                "ReferencedSOPClassUID": TAKEN.sop_class_uid,
                "ReferencedSOPInstanceUID": "1.2.4",
                "FailureReason": str(0xA900),
            },
            {"ReferencedSOPInstanceUID": "1.2.9", "FailureReason": str(0xC000)},
        ],
        "ReferencedSOPSequence": [
            {"ReferencedSOPClassUID": TAKEN.sop_class_uid, "ReferencedSOPInstanceUID": "1.2.3", "RetrieveURL": None}
        ],
    }


@pytest.mark.parametrize(
    ("target", "study"),
    [
        ("/dicom-web/studies", ""),
        ("/dicom-web/studies/", ""),
        ("/dicom-web/studies?x=1", ""),
        ("/dicom-web/studies/1.2.3", "1.2.3"),
        ("/dicom-web/studies/1.2.3/", "1.2.3"),
        ("http://node:8080/dicom-web/studies", ""),
        ("HTTPS://node/dicom-web/studies/1.2.3?x=/", "1.2.3"),
    ],
)
def test_targets(target: str, study: str) -> None:
    assert study_of(target, "/dicom-web") == study


@pytest.mark.parametrize(
    "target",
    ["/", "*", "/studies", "/dicom-web/studies/x", "/dicom-web/studies/1.2/series", f"/dicom-web/studies/{'1' * 65}", "http:///dicom-web/studies", "ftp://a/dicom-web/studies"],
)  # fmt: skip
def test_targets_that_are_none(target: str) -> None:
    with pytest.raises(Unacceptable) as caught:
        study_of(target, "/dicom-web")
    assert caught.value.http == 404


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/json", JSON),
        ("application/json;q=0.1, text/html", JSON),
        (f"{XML}, {JSON};q=0.5", XML),
        (f"{JSON};q=0, {XML}", XML),
        (f"{XML}, */*;q=0.1", XML),
        (f"{XML};q=0.2, */*;q=0.2", JSON),
        (f"*/*, {JSON}; q=0", XML),
        (f"text/html, {XML}; charset=utf-8", XML),
    ],
)
def test_the_answer_is_what_is_asked_for(accept: str | None, answer: str) -> None:
    header = {"content-type": RELATED} | ({"accept": accept} if accept else {})
    assert asked("1.2", header).answer == answer


def test_bodies() -> None:
    assert isinstance(asked("", {"content-type": RELATED}).body, Multipart)
    assert isinstance(asked("", {"content-type": RELATED, "content-encoding": "Identity"}).body, Multipart)
    assert isinstance(asked("", {"content-type": "Multipart/Related; boundary=a"}).body, Multipart)
    assert isinstance(asked("", {"content-type": "application/dicom; transfer-syntax=*"}).body, Single)
    assert is_dicom({})
    assert is_dicom({"content-type": "Application/DICOM; transfer-syntax=1.2"})
    assert not is_dicom({"content-type": "application/dicom+json"})


@pytest.mark.parametrize(
    ("header", "http"),
    [
        ({}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "multipart/form-data; boundary=a"}, 415),
        ({"content-type": 'multipart/related; type="application/dicom+xml"; boundary=a'}, 415),
        ({"content-type": RELATED, "content-encoding": "gzip"}, 415),
        ({"content-type": RELATED, "accept": "image/png"}, 406),
        ({"content-type": RELATED, "accept": "*/*;q=0"}, 406),
        ({"content-type": "multipart/related"}, 400),
        ({"content-type": "multipart/related; boundary*=utf-8''%FF"}, 400),
    ],
)
def test_what_cannot_be_asked_for(header: dict[str, str], http: int) -> None:
    with pytest.raises(Unacceptable) as caught:
        asked("", header)
    assert caught.value.http == http


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer " + "a" * 43, "a" * 43),
        ("bearer  " + "a" * 32, "a" * 32),
        ("Bearer " + "a" * 31, None),
        ("Bearer " + "a" * 5000, None),
        ("Bearer a b" + "a" * 32, None),
        ("Basic " + "a" * 43, None),
        ("", None),
    ],
)
def test_tokens(authorization: str, token: str | None) -> None:
    assert token_of(authorization) == token
