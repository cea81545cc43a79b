"""Writing Data Sets and files (PS3.5, PS3.10 7) in the node's name."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from dicomnode import __version__
from dicomnode.encoded.quiet import hushed
from dicomnode.encoded.walk import NATIVE, Buffer, layout_of
from dicomnode.errors import StudyError

#: Implementation Class UID (0002,0012) of every release.
IMPLEMENTATION_CLASS_UID: Final = "2.25.11147425772784505369694628405844093317"
#: Implementation Version Name (0002,0013), at most 16 characters.
IMPLEMENTATION_VERSION_NAME: Final = f"DICOMNODE_{__version__.replace('.', '_')}"[:16]


def encode_dataset(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """Encoded Data Set, without groups 0000 and 0002; pixel data is written as it is, never transcoded.

    Raises
    ------
    StudyError
        ``object-malformed`` if a value cannot be written, such as a text outside its character set.
    """
    layout = layout_of(transfer_syntax_uid)
    buffer = DicomBytesIO()
    buffer.is_little_endian = not layout.big_endian
    buffer.is_implicit_VR = layout.implicit
    try:
        with hushed():
            if any(group <= 2 for group in {tag.group for tag in dataset.keys()}):  # noqa: SIM118
                dataset = dataset[0x00030000:]
            if "PixelData" in dataset:
                dataset["PixelData"].is_undefined_length = transfer_syntax_uid not in NATIVE
            write_dataset(buffer, dataset)
    except Exception:  # noqa: BLE001 - pydicom raises many kinds on values that do not fit their VR
        raise StudyError("object-malformed") from None
    encoded: bytes = buffer.getvalue()
    if not layout.deflated:
        return encoded
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    deflated = stream.compress(encoded) + stream.flush()
    return deflated + b"\0" * (len(deflated) % 2)  # PS3.5 A.5: padded to an even length


def encode_part10(dataset: Dataset, *, transfer_syntax_uid: str) -> bytes:
    """A whole file (PS3.10 7.1): empty preamble, File Meta Information, Data Set.

    Raises
    ------
    StudyError
        ``object-malformed`` if it cannot be written, ``object-without-uids`` if it has no SOP UIDs.
    """
    sop_class_uid, sop_instance_uid = dataset.get("SOPClassUID"), dataset.get("SOPInstanceUID")
    if not sop_class_uid or not sop_instance_uid:
        raise StudyError("object-without-uids")
    if not (str(sop_class_uid).isascii() and str(sop_instance_uid).isascii()):
        raise StudyError("object-malformed")
    return wrap_part10(
        encode_dataset(dataset, transfer_syntax_uid),
        sop_class_uid=str(sop_class_uid),
        sop_instance_uid=str(sop_instance_uid),
        transfer_syntax_uid=transfer_syntax_uid,
    )


def wrap_part10(encoded: Buffer, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """A whole file around a Data Set that is encoded already."""
    meta = b"".join(
        (
            b"\x02\x00\x01\x00OB\0\0\x02\0\0\0\x00\x01",
            _element(0x02, b"UI", sop_class_uid),
            _element(0x03, b"UI", sop_instance_uid),
            _element(0x10, b"UI", transfer_syntax_uid),
            _element(0x12, b"UI", IMPLEMENTATION_CLASS_UID),
            _element(0x13, b"SH", IMPLEMENTATION_VERSION_NAME),
        )
    )
    head = b"\0" * 128 + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<L", len(meta))
    return b"".join((head, meta, encoded))


def _element(number: int, vr: bytes, text: str) -> bytes:
    """Element of group 0002 (PS3.10 7.1: Explicit VR Little Endian)."""
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value
