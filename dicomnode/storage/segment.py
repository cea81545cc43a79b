"""The format of a segment, the spool's file: header, record prefix, close record. Pure: bytes in, bytes out.

The exact layout stands in ``deploy/docs/formats.md``. Everything begins at a multiple of the segment's alignment.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import asdict, dataclass
from datetime import datetime
from json.encoder import encode_basestring_ascii as _json
from typing import Final

from dicomnode.errors import StorageError
from dicomnode.storage.sealed import TAG_BYTES, Buffer, SealContext
from dicomnode.study import Purpose, RecordMetadata

_MAGIC: Final = b"DNSEGMNT"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(
    ">8sIIB64s32s"
)  # magic, version, alignment, length of the study key, study key, segment id
_PREFIX: Final = struct.Struct(">4s32sIQ")  # magic, segment id, number, sealed bytes
_RECORD: Final = b"DNRC"
_CLOSE: Final = b"DNCL"
_TRAILER: Final = struct.Struct(">I")
PREFIX_BYTES: Final = _PREFIX.size
HEADER_BYTES: Final = _HEADER.size
MINIMUM_ALIGNMENT: Final = 512
MAXIMUM_ALIGNMENT: Final = 1024 * 1024
_MAXIMUM_METADATA: Final = 64 * 1024
METADATA_TAIL: Final = _MAXIMUM_METADATA + _TRAILER.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What the first block of a segment says; sealed records prove it."""

    segment_id: str
    study_key: str
    alignment: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """What stands before a sealed record."""

    segment_id: str
    number: int
    sealed_bytes: int
    closing: bool

    def padded(self, alignment: int) -> int:
        """Bytes from this record to the next."""
        return padded(self.sealed_bytes, alignment)

    def packed(self) -> bytes:
        """As it stands there."""
        return pack_prefix(self.segment_id, self.number, self.sealed_bytes, closing=self.closing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """What the close record says: how many records, and the digest over their prefixes and last tags."""

    records: int
    digest: str


class Chain:
    """Digest over all records of a segment: SHA-256 over prefix and last tag of each."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, prefix: bytes, tag: Buffer) -> None:
        """One more record."""
        if len(tag) != TAG_BYTES:
            raise ValueError("a tag has 16 bytes")
        self._hash.update(prefix)
        self._hash.update(tag)

    def digest(self) -> str:
        """So far, in hex."""
        return self._hash.hexdigest()


def round_up(size: int, alignment: int) -> int:
    """Next multiple of the alignment."""
    return -(-size // alignment) * alignment


def padded(sealed_bytes: int, alignment: int) -> int:
    """Bytes that a record of so many sealed bytes takes, with what stands before and behind it."""
    return round_up(PREFIX_BYTES + sealed_bytes, alignment)


def context(study_key: str, segment_id: str, number: int, *, closing: bool = False) -> SealContext:
    """What a record is bound to: study, segment and number."""
    purpose = Purpose.CLOSE_RECORD if closing else Purpose.RECORD
    return SealContext(study_key=study_key, object_id=f"{segment_id}:{number}", purpose=purpose)


def pack_header(header: Header) -> bytes:
    """First block of a segment, padded."""
    key = header.study_key.encode("ascii")
    segment_id = header.segment_id.encode("ascii")
    packed = _HEADER.pack(_MAGIC, _VERSION, header.alignment, len(key), key, segment_id)
    return packed.ljust(header.alignment, b"\x00")


def parse_header(data: Buffer) -> Header:
    """Header out of the first bytes of a file.

    Raises
    ------
    StorageError
        ``sealed-damaged`` if they are none.
    """
    if len(data) < HEADER_BYTES:
        raise StorageError("sealed-damaged", bytes=len(data))
    magic, version, alignment, length, key, segment_id = _HEADER.unpack_from(data)
    power = alignment & (alignment - 1) == 0
    if magic != _MAGIC or version != _VERSION or not power or not MINIMUM_ALIGNMENT <= alignment <= MAXIMUM_ALIGNMENT:
        raise StorageError("sealed-damaged", version=version)
    try:
        return Header(
            segment_id=segment_id.decode("ascii"), study_key=key[:length].decode("ascii"), alignment=alignment
        )
    except UnicodeDecodeError:
        raise StorageError("sealed-damaged", version=version) from None


def pack_prefix(segment_id: str, number: int, sealed_bytes: int, *, closing: bool) -> bytes:
    """Prefix of a record."""
    return _PREFIX.pack(_CLOSE if closing else _RECORD, segment_id.encode("ascii"), number, sealed_bytes)


def parse_prefix(data: Buffer, segment_id: str) -> Prefix | None:
    """Prefix at the start of some bytes; None where no record of this segment begins."""
    if len(data) < PREFIX_BYTES:
        return None
    magic, named, number, sealed_bytes = _PREFIX.unpack_from(data)
    if magic not in (_RECORD, _CLOSE) or named != segment_id.encode("ascii"):
        return None
    return Prefix(segment_id=segment_id, number=number, sealed_bytes=sealed_bytes, closing=magic == _CLOSE)


def pack_metadata(metadata: RecordMetadata) -> bytes:
    """End of a record's plaintext: metadata as JSON with sorted keys and no spaces, then its length."""
    encoded = (
        f'{{"called_ae_title":{_json(metadata.called_ae_title)}'
        f',"calling_ae_title":{_json(metadata.calling_ae_title)}'
        f',"digest":{_json(metadata.digest)}'
        f',"length":{metadata.length}'
        f',"peer_address":{_json(metadata.peer_address)}'
        f',"received_at":{_json(metadata.received_at.isoformat())}'
        f',"series_instance_uid":{_json(metadata.series_instance_uid)}'
        f',"sop_class_uid":{_json(metadata.sop_class_uid)}'
        f',"sop_instance_uid":{_json(metadata.sop_instance_uid)}'
        f',"study_instance_uid":{_json(metadata.study_instance_uid)}'
        f',"transfer_syntax_uid":{_json(metadata.transfer_syntax_uid)}}}'
    ).encode()  # made for every record: `json.dumps` writes the same, and takes three times as long
    if len(encoded) > _MAXIMUM_METADATA:
        raise ValueError("the metadata of a record are too long")
    return encoded + _TRAILER.pack(len(encoded))


def parse_metadata(tail: bytes, total: int) -> RecordMetadata:
    """Metadata out of the end of a record's authentic plaintext.

    Parameters
    ----------
    tail
        At least the last `METADATA_TAIL` bytes, or all of them.
    total
        Length of the whole plaintext.

    Raises
    ------
    StorageError
        ``sealed-damaged`` if it is not laid out as a record.
    """
    try:
        (length,) = _TRAILER.unpack_from(tail, len(tail) - _TRAILER.size)
        start = len(tail) - _TRAILER.size - length
        plain = json.loads(tail[max(start, 0) : start + length])
        plain["received_at"] = datetime.fromisoformat(plain["received_at"])
        metadata = RecordMetadata(**plain)
    except (struct.error, ValueError, KeyError, TypeError):
        raise StorageError("sealed-damaged", bytes=total) from None
    if start < 0 or metadata.length != total - _TRAILER.size - length:
        raise StorageError("sealed-damaged", bytes=total)
    return metadata


def pack_close(close: Close) -> bytes:
    """Plaintext of the close record."""
    return json.dumps(asdict(close), separators=(",", ":"), sort_keys=True).encode()


def parse_close(plaintext: bytes) -> Close:
    """Close record out of its authentic plaintext; ``sealed-damaged`` if it is none."""
    try:
        return Close(**json.loads(plaintext))
    except (ValueError, TypeError):
        raise StorageError("sealed-damaged", bytes=len(plaintext)) from None
