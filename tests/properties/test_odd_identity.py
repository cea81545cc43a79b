"""Whatever a source writes into its identity: it comes back as it was, or one code says that it cannot."""

from __future__ import annotations

import json
import struct
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset

from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import Limits, encode_dataset, read_part10_raw, wrap_part10
from dicomnode.errors import StudyError
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.identity import FURTHER_KEYWORDS, IDENTITY_KEYWORDS, SourceIdentity
from dicomnode.results import checks, restorable
from dicomnode.results.identity import restore

EXPLICIT: Final = "1.2.840.10008.1.2.1"
IMPLICIT: Final = "1.2.840.10008.1.2"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
#: VRs whose bytes no character set touches.
PLAIN: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
TOP: Final = tuple(
    keyword
    for keyword in IDENTITY_KEYWORDS
    if keyword not in ("SpecificCharacterSet", "StudyInstanceUID")
    and not keyword.endswith("Sequence")
    and dictionary_VR(keyword) not in {"US", "FD"}
)
#: Attributes of an item of a request, of every VR that text can have.
INNER: Final = (
    "ScheduledProcedureStepStartDate",
    "ScheduledProcedureStepStartTime",
    "ScheduledProcedureStepStartDateTime",
    "RequestedProcedureID",
    "ReasonForTheRequestedProcedure",
    "StudyInstanceUID",
    "NumericValue",
    "SelectorISValue",
    "PersonName",
    "TextValue",
    "CodingSchemeURL",
    "ScheduledStationAETitle",
    "LongCodeValue",
    "PatientAge",
    "SpecificCharacterSet",
)
CHARSETS: Final = st.sampled_from(
    [b"", b"ISO_IR 100", b"ISO_IR 192", b"GB18030", b"\\ISO 2022 IR 87", b"ISO 2022 IR 13\\ISO 2022 IR 87", b"NONE"]
)
ODD: Final = st.sampled_from(
    [
        b"70,5", b"unknown", b"70,5 kg", b"  70.5 ", b"+70", b"7E1", b"70.50000000000000001", b"1e999", b"nan", b"inf",
        b"70\\", b"70\\80", b"\\", b"A=B=C=D^E", b"A==C", b"=B", b"^^", b"25:99", b"2019-10-31", b"61Y", b"1.02.3",
        b"1.2\\1.3", b"M\xc3\xbcller^J", b"M\xfcller", b"\xb5", b"\x1b$B;3ED\x1b(B^x", b"\x81\x5c", b"a\x00b", b"\r\n",
    ]
)  # fmt: skip
values = st.one_of(
    ODD,
    st.binary(max_size=12),
    st.text(alphabet="0123456789.,+-eE \\^=aZ", max_size=24).map(str.encode),
    st.binary(min_size=1, max_size=3).map(lambda part: part * 400),
)


def element(keyword: str, value: bytes) -> bytes:
    tag = tag_for_keyword(keyword) or 0
    value += b" " * (len(value) % 2)
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def source(top: dict[str, bytes], inner: dict[str, bytes], charset: bytes) -> bytes:
    """A CT image as a file, in Implicit VR, so that every value may have any length."""
    top = top | {"SpecificCharacterSet": charset, "SOPClassUID": CT.encode(), "SOPInstanceUID": b"1.2.3.4"}
    top |= {"StudyInstanceUID": b"1.2.3", "SeriesInstanceUID": b"1.2.3.1"}
    if inner:
        body = b"".join(element(one, inner[one]) for one in sorted(inner, key=lambda one: tag_for_keyword(one) or 0))
        top["RequestAttributesSequence"] = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
    encoded = b"".join(element(one, top[one]) for one in sorted(top, key=lambda one: tag_for_keyword(one) or 0))
    return wrap_part10(encoded, sop_class_uid=CT, sop_instance_uid="1.2.3.4", transfer_syntax_uid=IMPLICIT)


def kept(file: bytes) -> SourceIdentity:
    """What the vault has, once it was sealed and opened."""
    found = source_identity([read_part10_raw(file, Limits())], {})
    return SourceIdentity.from_json(json.loads(json.dumps(found.to_json())))


def result(identity: SourceIdentity, form: Form) -> tuple[Dataset, Dataset]:
    """An object that carries the identity, out of its bytes; and the same with every value as its bytes."""
    made = Dataset()
    made.SOPClassUID, made.StudyInstanceUID = SOP_CLASSES[form], "1.2.3"
    encoded = encode_dataset(restore(made, identity), EXPLICIT)
    raw = read_part10_raw(
        wrap_part10(encoded, sop_class_uid=CT, sop_instance_uid="1.2", transfer_syntax_uid=EXPLICIT), Limits()
    )
    return checks.decode(encoded), raw


def said(value: bytes) -> list[bytes]:
    """Values without their padding, names without empty groups at their ends; all of them empty says nothing."""
    parts = [part.strip(b" \0").rstrip(b"=") for part in (value or b"").split(b"\\")]
    return parts if any(parts) else []


def is_plain(value: bytes) -> bool:
    return value.isascii() and b"\x1b" not in value


def judge(top: dict[str, bytes], inner: dict[str, bytes], charset: bytes) -> str:
    """Prove that it comes back byte for byte where no character set has a say; the attribute that it was refused for."""
    try:
        identity = kept(source(top, inner, charset))
        identity, attributes = restorable.proved(identity)
    except StudyError as error:
        if error.code != "identity-unwritable" or error.is_fault:
            raise
        return str(error.facts["attribute"])
    for form in (Form.BINARY, Form.COMPREHENSIVE):
        decoded, raw = result(identity, form)
        checks.prove_identity(decoded, attributes)
        for keyword, value in top.items():
            if keyword in FURTHER_KEYWORDS and keyword not in attributes:
                assert keyword not in raw
            elif dictionary_VR(tag_for_keyword(keyword) or 0) in PLAIN or is_plain(value):
                assert said(raw.get_item(keyword).value) == said(value), keyword
        if inner:
            name = "RequestAttributesSequence" if form is Form.BINARY else "ReferencedRequestSequence"
            if name not in raw:  # no reader opens a sequence whose item has a character set like this
                assert "SpecificCharacterSet" in inner
                continue
            (item,) = raw[name].value
            for keyword, value in inner.items():
                plain = dictionary_VR(tag_for_keyword(keyword) or 0) in PLAIN or is_plain(value)
                if keyword != "SpecificCharacterSet" and keyword in item and said(value) and plain:
                    assert said(item.get_item(keyword).value) == said(value), keyword
    return ""


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(TOP), values, max_size=4),
    st.dictionaries(st.sampled_from(INNER), values, max_size=3),
    CHARSETS,
)
@example({"PatientWeight": b"70,5"}, {}, b"")
@example({"PatientSize": b"unknown"}, {}, b"ISO_IR 100")
@example({"PatientName": b"A=B=C=D^E"}, {"PersonName": b"A=B=C=D^E"}, b"")
def test_it_comes_back_or_is_refused(top: dict[str, bytes], inner: dict[str, bytes], charset: bytes) -> None:
    judge(top, inner, charset)


def test_what_does_not_come_back_is_named() -> None:
    """A file of the vault that is not of this build: letters that no reader gets out of the bytes again."""
    for tag, value in (("00100040", "\u20ac"), ("00100020", "\ud800")):
        identity = SourceIdentity(attributes={tag: {"vr": dictionary_VR(int(tag, 16)), "Value": [value]}}, uids={})
        with pytest.raises(StudyError, match="identity-unwritable") as caught:
            restorable.proved(identity)
        assert caught.value.facts == {"attribute": keyword_for_tag(int(tag, 16))}


@pytest.mark.parametrize("keyword", TOP)
@pytest.mark.parametrize(
    "value", [b"70,5", b"unknown", b"+70.50", b"70\\", b"A=B=C=D^E", b"\xb5 \xff", b"\xc3\xbc", b"x" * 300]
)
def test_a_value_that_no_vr_allows_comes_back(keyword: str, value: bytes) -> None:
    assert judge({keyword: value}, {}, b"ISO_IR 100") == ""
    assert judge({keyword: value}, {}, b"") == ""


def test_what_a_result_may_do_without_is_left_out_where_it_does_not_come_back() -> None:
    """A result is worth more than an old remark in letters that nobody can read."""
    values = {"00104000": "\ud800", "00102180": "Baker", "00100020": "A1", "0020000D": "1.2.3"}
    attributes = {tag: {"vr": dictionary_VR(int(tag, 16)), "Value": [value]} for tag, value in values.items()}
    identity, source = restorable.proved(SourceIdentity(attributes=attributes, uids={}))
    assert set(identity.attributes) == {"00102180", "00100020", "0020000D"}
    assert (source.Occupation, source.PatientID) == ("Baker", "A1")
    assert "PatientComments" not in source
    decoded, _ = result(identity, Form.BINARY)
    checks.prove_identity(decoded, source)


def test_an_attribute_of_a_trial_with_letters_of_no_set_costs_no_result() -> None:
    came = source(
        {"PatientID": b"A1", "ClinicalTrialSubjectID": b"S-1", "PatientComments": b"\x1b$B\xff\xff"}, {}, b"ISO_IR 100"
    )
    identity, attributes = restorable.proved(kept(came))
    assert attributes.ClinicalTrialSubjectID == "S-1"
    decoded, _ = result(identity, Form.BINARY)
    assert decoded.ClinicalTrialSubjectID == "S-1"
