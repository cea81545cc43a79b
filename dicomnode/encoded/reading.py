"""Reading what strangers encoded: the UIDs of an object, a whole Data Set, a file (PS3.10 7).

Every way out is a result or one `StudyError`; a Data Set that was read is converted whole, so that a walk over it
later neither fails nor warns.
"""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple, cast

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filereader import read_dataset as pydicom_read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicomnode.encoded.quick import LONGEST_VALUE, NEEDED, SERIES_INSTANCE_UID, WANTED, quick_header
from dicomnode.encoded.quiet import hushed
from dicomnode.encoded.walk import (
    Buffer,
    Layout,
    Limits,
    Walk,
    check_budget,
    end_of,
    inflate,
    inflate_whole,
    is_cut,
    layout_of,
    looks_implicit,
)
from dicomnode.errors import StudyError

IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
_UID: Final = re.compile(rb"[0-9]+(?:\.[0-9]+)*")  # PS3.5 9.1; leading zeros are wrong but met
_ENDLESS: Final = 1 << 62
_PIXELS: Final = 0x7FE00000  # from here on nothing but pixels, and what pads or signs them
_META_START: Final = 144  # PS3.10 7.1: preamble, prefix, and the element that says how long the rest of the meta is
_LONGEST_META: Final = 64 * 1024
_NAMED_IN_META: Final = (0x00020002, 0x00020003, 0x00020010)
#: What converting a value can raise in pydicom; the value then stays as it was encoded.
_VALUE_ERRORS: Final = (
    BytesLengthException,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    OSError,
    struct.error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the intake needs of an object; ``modality`` is empty when absent."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str


def scan_header(encoded: Buffer, transfer_syntax_uid: str, limits: Limits, *, whole: bool = True) -> Header:
    """UIDs of an encoded Data Set, out of its first ``limits.header_scan_bytes`` bytes; nothing is decoded.

    Parameters
    ----------
    whole
        False: these are the first bytes of a Data Set, and more will follow. Then an answer is given only when the walk
        has come past the UIDs, or to the end of what may be looked at.

    Raises
    ------
    StudyError
        ``object-without-uids`` if a SOP Class, SOP Instance, Study or Series Instance UID is not there or empty;
        ``object-malformed``; ``object-too-complex``.
    """
    layout = layout_of(transfer_syntax_uid)
    view = memoryview(encoded).cast("B")
    found = (
        None
        if layout.deflated or layout.big_endian
        else quick_header(view[: limits.header_scan_bytes], implicit=looks_implicit(view, 0, layout.implicit))
    )
    if found is None:
        found = _walked_header(view, layout, limits, whole=whole)
    header = Header(
        sop_class_uid=_uid(found.get("sop_class_uid", b"")),
        sop_instance_uid=_uid(found.get("sop_instance_uid", b"")),
        study_instance_uid=_uid(found.get("study_instance_uid", b"")),
        series_instance_uid=_uid(found.get("series_instance_uid", b"")),
        modality=_code(found.get("modality", b"")),
    )
    if not (
        header.sop_class_uid and header.sop_instance_uid and header.study_instance_uid and header.series_instance_uid
    ):
        raise StudyError("object-without-uids")
    return header


def _walked_header(view: memoryview, layout: Layout, limits: Limits, *, whole: bool) -> dict[str, bytes]:
    head: Buffer = view[: limits.header_scan_bytes]
    total: int | None = len(view) if whole else _ENDLESS
    if layout.deflated:
        head, more = inflate(head, limits.header_scan_bytes)
        total = limits.maximum_inflated_bytes if more else None
    found: dict[str, bytes] = {}
    passed = False
    for element in Walk(head, layout, limits, total=total).elements():
        name = WANTED.get(element.tag)
        end = element.start + element.length
        if name and element.length <= LONGEST_VALUE and name not in found and end <= len(head):
            found[name] = bytes(head[element.start : end])
        if element.tag >= SERIES_INSTANCE_UID and found.keys() >= NEEDED:
            passed = True
            break
    if not (whole or passed) and len(view) < limits.header_scan_bytes:
        raise StudyError("object-without-uids")
    return found


@lru_cache(256)
def _uid(value: bytes) -> str:
    text = value.strip(b"\0 ")
    if len(text) > 64 or (text and not _UID.fullmatch(text)):
        raise StudyError("object-malformed")
    return text.decode("ascii")


@lru_cache(64)
def _code(value: bytes) -> str:
    """CS of PS3.5 6.2, the first value; what is none is as good as absent."""
    text = value.split(b"\\")[0].strip(b"\0 ")
    return text.decode("ascii") if re.fullmatch(rb"[A-Z0-9 _]{0,16}", text) else ""


def read_dataset(encoded: Buffer, transfer_syntax_uid: str, limits: Limits) -> Dataset:
    """A Data Set with every value converted, after its budget was checked.

    A value that its VR does not allow stays as it came: text that should be a number as text, anything else as bytes
    under VR UN. ``file_meta.TransferSyntaxUID`` is set (to what
    the bytes are, where a native syntax was named wrongly).

    Raises
    ------
    StudyError
        ``object-too-complex`` or ``object-malformed``; nothing else, and no warning.
    """
    return _read(encoded, transfer_syntax_uid, limits, converted=True)


def read_head(head: Buffer, transfer_syntax_uid: str, limits: Limits) -> Dataset:
    """As `read_dataset`, of the first bytes of a longer Data Set: the elements before its pixels that lie whole in them.

    What ends with these bytes, or behind them, is absent. Of a deflated one, as many inflated bytes are looked at, or as many as `scan_header` does.
    """
    layout = layout_of(transfer_syntax_uid)
    if layout.deflated:
        head, _ = inflate(head, max(len(head), limits.header_scan_bytes))
    walk = Walk(head, layout, limits, total=_ENDLESS)
    for element in walk.elements():
        if element.tag >= _PIXELS:
            break
    syntax = EXPLICIT_LITTLE if layout.deflated else transfer_syntax_uid
    return _read(memoryview(head)[: walk.begun].tobytes(), syntax, limits, converted=True)


def _read(
    encoded: Buffer, transfer_syntax_uid: str, limits: Limits, *, converted: bool, drop_rest: bool = False
) -> Dataset:
    layout = layout_of(transfer_syntax_uid)
    data = inflate_whole(encoded, limits) if layout.deflated else encoded
    walk = Walk(data, layout, limits)
    try:
        for _ in walk.elements():
            pass
    except StudyError:
        if not drop_rest:
            raise
        data = memoryview(data)[: end_of(data, layout, limits)]
    try:
        with hushed():
            dataset = pydicom_read_dataset(BytesIO(data), walk.implicit, not layout.big_endian)
            if converted:
                _convert_all(dataset, limits)
            dataset.file_meta = FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = UID(_actual(transfer_syntax_uid, layout, walk.implicit))
    except Exception:  # noqa: BLE001 - pydicom raises many kinds on a damaged Data Set
        raise StudyError("object-malformed") from None
    return dataset


def _actual(transfer_syntax_uid: str, layout: Layout, implicit: bool) -> str:
    if transfer_syntax_uid == EXPLICIT_LITTLE and implicit:
        return IMPLICIT_LITTLE
    if transfer_syntax_uid == IMPLICIT_LITTLE and not implicit:
        return EXPLICIT_LITTLE
    return EXPLICIT_LITTLE if layout.deflated else transfer_syntax_uid


def _convert_all(dataset: Dataset, limits: Limits) -> None:
    """Convert every element of a Data Set and of its items, without recursion."""
    open_datasets = [dataset]
    while open_datasets:
        current = open_datasets.pop()
        for tag in sorted(current.keys()):  # private creators before what they name
            if tag.group in {0x0000, 0xFFFE}:  # padding and stray delimiters are no elements
                del current[tag]
                continue
            element = convert(current, tag, limits)
            if element.VR == "SQ" and element.value:
                open_datasets.extend(element.value)


def convert(dataset: Dataset, tag: BaseTag, limits: Limits) -> DataElement:
    """Convert one element, in its place; a value that its VR does not allow stays as it came."""
    raw = cast(DataElement | RawDataElement, dataset.get_item(tag))
    if isinstance(raw, DataElement):
        return raw
    if raw.VR not in {None, "UN"} or not tag.is_private or _is_sound(raw, limits):
        with suppress(*_VALUE_ERRORS):
            return dataset[tag]
    element = DataElement(tag, "OB", raw.value or b"", already_converted=True)
    element.VR = "UN"  # named at once, pydicom would convert it again
    dataset[tag] = element
    return element


def _is_sound(raw: RawDataElement, limits: Limits) -> bool:
    """Whether a private value without a VR may be given to pydicom, whose dictionary may say that it is a sequence."""
    value = raw.value or b""
    order = "<" if raw.is_little_endian else ">"
    if value[:4] != struct.pack(order + "HH", 0xFFFE, 0xE000):
        return True
    sequence = struct.pack(order + "HH2sHL", 0x0009, 0x1001, b"SQ", 0, len(value)) + value
    try:
        check_budget(sequence, EXPLICIT_LITTLE if raw.is_little_endian else EXPLICIT_BIG, limits)
    except StudyError:
        return False
    return True


def read_file(path: Path, limits: Limits) -> Dataset:
    """A Data Set out of a file: Part 10, with or without its preamble, or a bare Data Set.

    Raises
    ------
    StudyError
        ``object-malformed`` if it cannot be opened or is no DICOM; ``object-too-complex``; ``object-too-large`` where
        memory does not hold it.
    """
    try:
        data = path.read_bytes()
    except OSError:
        raise StudyError("object-malformed") from None
    except MemoryError:
        raise StudyError("object-too-large") from None
    return read_part10(data, limits)


def read_part10(data: Buffer, limits: Limits, *, drop_rest: bool = False) -> Dataset:
    """A Data Set out of the bytes of a file; as `read_file`.

    Parameters
    ----------
    drop_rest
        Where the file cannot be read to its end, but its pixels are whole, it ends behind them (`walk.end_of`).
    """
    transfer_syntax_uid, encoded = split_part10(data)
    dataset = _read(encoded, transfer_syntax_uid, limits, converted=True, drop_rest=drop_rest)
    if not len(dataset):
        raise StudyError("object-malformed")
    return dataset


def read_part10_raw(data: Buffer, limits: Limits) -> Dataset:
    """As `read_part10`, with every value as the bytes that came: converting one can lose what was written."""
    transfer_syntax_uid, encoded = split_part10(data)
    return _read(encoded, transfer_syntax_uid, limits, converted=False)


def is_cut_part10(data: Buffer, limits: Limits) -> bool:
    """As `walk.is_cut`, of a file."""
    transfer_syntax_uid, encoded = split_part10(data)
    return is_cut(encoded, transfer_syntax_uid, limits)


def split_part10(data: Buffer) -> tuple[str, memoryview]:
    """Transfer syntax of a file, and the part of it that is the Data Set (PS3.10 7.1).

    The preamble, the prefix and the File Meta Information may be absent; where the meta names a native syntax, the
    bytes decide.

    Raises
    ------
    StudyError
        ``object-malformed`` if it starts with nothing that DICOM starts with.
    """
    view = memoryview(data).cast("B")
    start = next((end for end in (132, 4) if bytes(view[end - 4 : end]) == b"DICM"), 0)
    transfer_syntax_uid, length = _meta(view[start:])
    encoded = view[start + length :]
    if transfer_syntax_uid in {"", IMPLICIT_LITTLE, EXPLICIT_LITTLE, EXPLICIT_BIG}:
        transfer_syntax_uid = _native(encoded, transfer_syntax_uid)
    return transfer_syntax_uid, encoded


class FileHead(NamedTuple):
    """What a file says before its Data Set (PS3.10 7.1), and where that begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    start: int


def file_head(data: Buffer, *, whole: bool) -> FileHead | None:
    """Head of a file that is still coming; None where more of it is needed.

    Parameters
    ----------
    whole
        Whether nothing more comes.

    Raises
    ------
    StudyError
        ``object-malformed`` where there is no File Meta Information as PS3.10 7.1 has it, or nothing behind it.
    """
    view = memoryview(data).cast("B")
    if len(view) >= _META_START:
        prefix = bytes(view[128:140])
        (length,) = struct.unpack_from("<L", view, 140)
        start = _META_START + length
        if prefix != b"DICM\x02\x00\x00\x00UL\x04\x00" or length > _LONGEST_META:
            raise StudyError("object-malformed")
        if len(view) >= start + 8:
            return _file_head(view, start)
    if whole:
        raise StudyError("object-malformed")
    return None


def _file_head(view: memoryview, start: int) -> FileHead:
    named = dict.fromkeys(_NAMED_IN_META, "")
    for element in Walk(view[132:start], layout_of(EXPLICIT_LITTLE), Limits()).elements():
        if element.tag in named:
            value = bytes(view[132 + element.start : 132 + element.start + element.length][:LONGEST_VALUE])
            named[element.tag] = _uid(value)
    if not named[0x00020010]:
        raise StudyError("object-malformed")
    syntax, _ = split_part10(view[: start + 8])
    return FileHead(named[0x00020002], named[0x00020003], syntax, start)


def _meta(view: memoryview) -> tuple[str, int]:
    """Transfer Syntax UID and length of the File Meta Information: elements of group 0002, whatever its length says."""
    if bytes(view[:2]) != b"\x02\x00":
        return "", 0
    transfer_syntax_uid, end = "", 0
    meta = view[: 64 * 1024]
    for element in Walk(meta, layout_of(EXPLICIT_LITTLE), Limits(), total=len(view)).elements():
        end = element.start + element.length
        if element.tag == 0x00020010:
            transfer_syntax_uid = _uid(bytes(view[element.start : end][:LONGEST_VALUE]))
        if bytes(view[end : end + 2]) != b"\x02\x00":
            break
    return transfer_syntax_uid, end


def _native(encoded: memoryview, named: str) -> str:
    """Native syntax of a Data Set by its first element: low groups come first, VRs are two capital letters."""
    if len(encoded) < 8:
        raise StudyError("object-malformed")
    little, big = struct.unpack_from("<H", encoded)[0], struct.unpack_from(">H", encoded)[0]
    if not named and min(little, big) > 0x00FF:
        raise StudyError("object-malformed")
    if big <= 0x00FF < little or (named == EXPLICIT_BIG and not little <= 0x00FF < big):
        return EXPLICIT_BIG
    return IMPLICIT_LITTLE if looks_implicit(encoded, 0, True) else EXPLICIT_LITTLE
