"""STOW-RS (PS3.18 10.5) as rules: what a request may ask for, what its answer says. Pure: no socket, no HTTP.

Statuses of single objects are those of C-STORE, and so are Failure Reasons (PS3.18 Table I.2-2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any, Final, Literal, NamedTuple

from dicomnode.network.multipart import Multipart, Single, Unacceptable
from dicomnode.network.status import SUCCESS, StatusKind, classify

DICOM: Final = "application/dicom"
JSON: Final = "application/dicom+json"
XML: Final = "application/dicom+xml"
TRANSFER_SYNTAX_NOT_SUPPORTED: Final = 0xC122  # PS3.18 Table I.2-2
#: The least that a bearer token has: shorter ones can be guessed, whatever hash stands in the configuration.
_LEAST_TOKEN: Final = 32
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]{1,4096})")
#: What stands before the path in the absolute form (RFC 9112 3.2.2).
_AUTHORITY: Final = re.compile(r"^https?://[^/]+(?=/)", re.IGNORECASE)
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")
#: Media ranges (RFC 9110 12.5.1) that JSON fits; older clients ask for plain JSON.
_JSON_RANGES: Final = (JSON, "application/json", "application/*", "*/*")  # the closer one counts (12.5.1)
_XML_RANGES: Final = (XML, "application/*", "*/*")
_QUALITY: Final = re.compile(r";[ \t]*[qQ]=([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|$)")
_VR: Final = {"00081150": "UI", "00081155": "UI", "00081197": "US"}
_KEYWORDS: Final = {
    "00081150": "ReferencedSOPClassUID",
    "00081155": "ReferencedSOPInstanceUID",
    "00081190": "RetrieveURL",
    "00081197": "FailureReason",
    "00081198": "FailedSOPSequence",
    "00081199": "ReferencedSOPSequence",
    "0008119A": "OtherFailuresSequence",
}


class Outcome(NamedTuple):
    """What became of one object; UIDs are empty where its part does not say them."""

    sop_class_uid: str
    sop_instance_uid: str
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request to store.

    Attributes
    ----------
    study_instance_uid
        Study that all objects are of; empty: any.
    body
        Takes its body apart.
    answer
        Media type of the answer.
    """

    study_instance_uid: str
    body: Multipart | Single
    answer: Literal["application/dicom+json", "application/dicom+xml"]


def token_of(authorization: str) -> str | None:
    """Bearer token (RFC 6750 2.1) of a header field; None where there is none that can be."""
    found = _BEARER.fullmatch(authorization.strip(" "))
    return found[1] if found is not None and len(found[1]) >= _LEAST_TOKEN else None


def study_of(target: str, path: str) -> str:
    """Study that a target (RFC 9112 3.2) names, of those under a path; "" where it names none.

    Raises
    ------
    Unacceptable
        ``path``: 404.
    """
    rest = _AUTHORITY.sub("", target.partition("?")[0]).removesuffix("/")
    if rest == f"{path}/studies":
        return ""
    study_instance_uid = rest.removeprefix(f"{path}/studies/")
    if study_instance_uid == rest or len(study_instance_uid) > 64 or not _UID.fullmatch(study_instance_uid):
        raise Unacceptable(404, "path")
    return study_instance_uid


def asked(study_instance_uid: str, header: Mapping[str, str]) -> Asked:
    """What a request asks for (PS3.18 10.5.1).

    Raises
    ------
    Unacceptable
        ``media-type`` 415, ``encoding`` 415, ``boundary`` 400, ``accept`` 406.
    """
    if header.get("content-encoding", "identity").strip().lower() != "identity":
        raise Unacceptable(415, "encoding")
    message = Message()
    message["Content-Type"] = header.get("content-type", "")
    kind = message.get_content_type() if "content-type" in header else ""
    body: Multipart | Single
    if kind == DICOM:
        body = Single()
    elif kind == "multipart/related" and _parameter(message, "type") in (DICOM, ""):
        body = Multipart(_parameter(message, "boundary").encode("latin-1", "replace"))
    else:
        raise Unacceptable(415, "media-type")
    return Asked(study_instance_uid=study_instance_uid, body=body, answer=_answer(header.get("accept", "")))


def is_dicom(header: Mapping[str, str]) -> bool:
    """Whether a part is an object; one that says nothing is what the whole is (RFC 2387 3.1)."""
    return header.get("content-type", DICOM).partition(";")[0].strip().lower() == DICOM


def http_status(outcomes: Sequence[Outcome]) -> int:
    """Status of the answer (PS3.18 Table 10.5.3-1): all stored, some, none, and none for now."""
    if not outcomes:
        return 400
    failed = [one.status for one in outcomes if one.status != SUCCESS]
    if len(failed) < len(outcomes):
        return 202 if failed else 200
    return 503 if all(classify(one) is StatusKind.TRANSIENT for one in failed) else 409


def report(outcomes: Sequence[Outcome], answer: str) -> bytes:
    """Store Instances Response Module (PS3.18 I.2) in DICOM JSON or in XML (PS3.19 A.1)."""
    stored = [_item(one) for one in outcomes if one.status == SUCCESS]
    failed = [one for one in outcomes if one.status != SUCCESS]
    named = [_item(one) for one in failed if one.sop_instance_uid]
    nameless = [_item(one) for one in failed if not one.sop_instance_uid]
    dataset: dict[str, Any] = {"00081190": {"vr": "UR"}}
    for tag, items in (("00081198", named), ("00081199", stored), ("0008119A", nameless)):
        if items:
            dataset[tag] = {"vr": "SQ", "Value": items}
    if answer == JSON:
        return json.dumps(dataset, separators=(",", ":")).encode("ascii")
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<NativeDicomModel xml:space="preserve">'
    return f"{head}{_xml(dataset)}</NativeDicomModel>".encode("ascii")


def _item(one: Outcome) -> dict[str, Any]:
    values: dict[str, str | int] = {}
    if one.sop_instance_uid:
        values |= {"00081150": one.sop_class_uid, "00081155": one.sop_instance_uid}
    if one.status != SUCCESS:
        values["00081197"] = one.status
    item: dict[str, Any] = {tag: {"vr": _VR[tag], "Value": [value]} for tag, value in values.items() if value != ""}
    if one.status == SUCCESS:
        item["00081190"] = {"vr": "UR"}
    return item


def _xml(dataset: Mapping[str, Any]) -> str:
    """Attributes in XML; their values are UIDs and numbers, which need no escape."""
    parts = []
    for tag, element in sorted(dataset.items()):
        values = []
        for number, value in enumerate(element.get("Value", ()), 1):
            name, inner = ("Item", _xml(value)) if isinstance(value, dict) else ("Value", str(value))
            values.append(f'<{name} number="{number}">{inner}</{name}>')
        attributes = f'tag="{tag}" vr="{element["vr"]}" keyword="{_KEYWORDS[tag]}"'
        parts.append(f"<DicomAttribute {attributes}>{''.join(values)}</DicomAttribute>")
    return "".join(parts)


def _answer(accept: str) -> Literal["application/dicom+json", "application/dicom+xml"]:
    ranges = dict(map(_weighed, (accept or "*/*").split(",")))
    json_weight, xml_weight = (_weight(ranges, names) for names in (_JSON_RANGES, _XML_RANGES))
    if not json_weight and not xml_weight:
        raise Unacceptable(406, "accept")
    return "application/dicom+json" if json_weight >= xml_weight else "application/dicom+xml"


def _weighed(media_range: str) -> tuple[str, float]:
    """A range and its weight (RFC 9110 12.4.2); one that is none is as if it were not there."""
    name, _, parameters = media_range.partition(";")
    found = _QUALITY.search(f";{parameters}")
    return name.strip().lower(), 1.0 if found is None else float(found[1])


def _weight(ranges: Mapping[str, float], names: Sequence[str]) -> float:
    """Weight of the first of these ranges that is asked for."""
    return next((ranges[name] for name in names if name in ranges), 0.0)


def _parameter(message: Message, name: str) -> str:
    value = message.get_param(name, "")
    return value.lower() if isinstance(value, str) and name == "type" else value if isinstance(value, str) else ""
