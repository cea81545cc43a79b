"""Every transfer syntax of encapsulated pixels, known or not: what nothing here decodes is withheld with one reason, whatever shows it."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import AllTransferSyntaxes

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.reader import Reader
from dicomnode.deidentification.stored import NATIVE
from dicomnode.encoded import Limits, encode_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification.pictures import SECONDARY_CAPTURE, Silent, capture
from tests.unit.deidentification.planted import CT

_ROOT = "1.2.840.10008.1.2."
#: Retired JPEG, JPIP, JPEG XL, encapsulated MIME and XML, and one that nobody knows.
_OTHERS = [
    *(f"{_ROOT}4.{last}" for last in (*range(52, 67), 94, 110, 111, 112)),
    f"{_ROOT}6.1",
    f"{_ROOT}6.2",
    "1.2.3.4",
]
_DEFLATED = {f"{_ROOT}4.95", f"{_ROOT}4.205"}  # JPIP: an address, and no pixels
SYNTAXES = sorted({str(uid) for uid in AllTransferSyntaxes} - NATIVE - _DEFLATED | set(_OTHERS))
VIDEOS = tuple(f"{_ROOT}4.10{last}" for last in range(9))
#: Beginnings of MPEG-2, and of JPEG Extended of 12 bits.
STREAMS = (b"\0\0\1\xba" * 64, b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\1\1\x11\0")
UNKNOWN = ("7.", "6.", "4.204", "4.94", "4.110", "4.111", "4.112")


def reason(syntax: str, sop_class: str, policy: Policy, reader: Reader | None, stream: bytes = STREAMS[0]) -> object:
    """Why an object is withheld, whose code is always the same."""
    ds = capture([np.zeros((16, 16), np.uint8)])
    ds.SOPClassUID, ds.BitsAllocated, ds.BitsStored, ds.HighBit = sop_class, 16, 12, 11
    if sop_class == CT:
        ds.Modality, ds.ConversionType = "CT", None
    ds.PixelData = encapsulate([stream.ljust(256, b"\0")])
    ds["PixelData"].VR = "OB"
    engine = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project"), reader=reader)
    with pytest.raises(StudyError) as caught:
        FileDeidentifier(engine, Limits()).deidentify(encode_part10(ds, transfer_syntax_uid=syntax))
    assert caught.value.code == "withheld-pixels"
    return caught.value.facts["because"]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_what_nothing_decodes_is_withheld_with_a_reason(syntax: str) -> None:
    video = syntax.startswith(VIDEOS)
    unknown = syntax == "1.2.3.4" or syntax.removeprefix(_ROOT).startswith(UNKNOWN)
    unseen = "video" if video else "undecodable"
    assert {reason(syntax, CT, EXPORT, None, stream) for stream in STREAMS} == {unseen}
    assert reason(syntax, SECONDARY_CAPTURE, EXPORT, Silent()) == unseen
    assert reason(syntax, SECONDARY_CAPTURE, EXPORT, None) == ("video" if video else "kind")
    assert reason(syntax, CT, AI, None) == ("video" if video else "syntax" if unknown else "stream")
