"""Encrypted Attributes Sequence (0400,0500): the original attributes inside a de-identified object, for recipients alone.

PS3.15 E.1.1 and PS3.3 C.12.1.1.4.1: a Data Set with Modified Attributes Sequence (0400,0550), enveloped by CMS (RFC 5652)
with AES-256-CBC and RSA key transport. What the envelope holds never passes through the leak check: it is ciphertext.

CBC tells nobody that a ciphertext was changed, and an envelope does not say whose it is. So behind the sequence stands a
mark of ours, a private block: the de-identified object's SOP Instance UID, and the SHA-256 of all that comes before. An
envelope of another writer has none and is believed as it is. Who encloses is not proved: that a certificate cannot.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import PKCS7EnvelopeBuilder, PKCS7Options, pkcs7_decrypt_der
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.stored import BIG_ENDIAN, swap_words, syntax_of
from dicomnode.encoded import Limits, encode_dataset, read_dataset
from dicomnode.errors import KeyStoreError, StudyError

EXPLICIT_LITTLE: Final = "1.2.840.10008.1.2.1"
_CHARACTER_SET: Final = 0x00080005
_BURNED_IN: Final = 0x00280301
_MARK_GROUP: Final = 0x0401
_MARK_CREATOR: Final = "DICOMNODE ENCLOSED"
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
#: How the pixels that are there are written, and what is burned into them: true of the pixels that stay, not of the source's.
_OF_PIXELS: Final = frozenset(
    {
        *(0x00280002, 0x00280003, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280301, 0x00281199),
        *range(0x00280100, 0x00280104),
        *range(0x00280106, 0x00280112),
        *range(0x00281101, 0x00281104),
        *range(0x00281201, 0x00281204),
        *range(0x00281221, 0x00281224),
    }
)
#: Written by de-identification: they go when an object is itself again, unless the original had them.
_FLAGS: Final = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "EncryptedAttributesSequence",
    "RecognizableVisualFeatures",
)


def enclose(source: Dataset, output: Dataset, recipients: tuple[x509.Certificate, ...]) -> None:
    """Add to a de-identified object what it lost: every attribute of the source, but for pixels, that differs or is a flag.

    Raises
    ------
    KeyStoreError
        ``key-wrong`` where a recipient's key is not RSA, or its certificate is not valid now (``because``).
    """
    refuse_invalid(recipients, datetime.now(UTC))
    originals = Dataset()
    for tag in source.keys():  # noqa: SIM118 - a Data Set iterates over parsed elements
        same = tag in output and output[tag] == source[tag] and keyword_for_tag(tag) not in _FLAGS
        kept = int(tag) in _PIXELS or (int(tag) in _OF_PIXELS and (tag in output or int(tag) != _BURNED_IN)) or same
        if tag.group > 2 and (int(tag) == _CHARACTER_SET or not kept):
            originals[tag] = source[tag]
    if syntax_of(source) == BIG_ENDIAN:
        swap_words(originals := deepcopy(originals))
    content = Dataset()
    content.ModifiedAttributesSequence = Sequence([originals])
    encoded = bytes(encode_dataset(content, EXPLICIT_LITTLE))
    builder = PKCS7EnvelopeBuilder().set_data(encoded + _mark(encoded, str(output.SOPInstanceUID)))
    for recipient in recipients:
        if not isinstance(recipient.public_key(), RSAPublicKey):
            raise KeyStoreError("key-wrong")
        builder = builder.add_recipient(recipient)
    envelope = builder.set_content_encryption_algorithm(AES256).encrypt(Encoding.DER, [PKCS7Options.Binary])
    item = Dataset()
    item.EncryptedContentTransferSyntaxUID = EXPLICIT_LITTLE
    item.EncryptedContent = envelope + b"\0" * (len(envelope) % 2)
    output.EncryptedAttributesSequence = Sequence([item])


def refuse_invalid(recipients: tuple[x509.Certificate, ...], now: datetime) -> None:
    """Refuse certificates beyond their validity (RFC 5280 4.1.2.5): nobody says any longer, or yet, whose key it is.

    Raises
    ------
    KeyStoreError
        ``key-wrong``, with ``because``: ``expired`` or ``not-yet-valid``.
    """
    for recipient in recipients:
        if now > recipient.not_valid_after_utc:
            raise KeyStoreError("key-wrong", because="expired")
        if now < recipient.not_valid_before_utc:
            raise KeyStoreError("key-wrong", because="not-yet-valid")


def restore(dataset: Dataset, certificate: x509.Certificate, key: RSAPrivateKey, limits: Limits) -> Dataset:
    """The object with its original attributes; pixels stay as they are in the de-identified one.

    Raises
    ------
    StudyError
        ``object-not-reidentifiable`` where nothing is enclosed.
    KeyStoreError
        ``key-wrong`` where it was enclosed for others, was changed, or is another object's.
    """
    items = dataset.get("EncryptedAttributesSequence") or []
    contents = [bytes(item.get("EncryptedContent") or b"") for item in items]
    if not any(contents):
        raise StudyError("object-not-reidentifiable")
    opened = next((plain for content in contents if (plain := _open(content, certificate, key)) is not None), None)
    if opened is None:
        raise KeyStoreError("key-wrong")
    try:
        content = read_dataset(opened, EXPLICIT_LITTLE, limits)
    except StudyError as error:  # CBC opens what was changed as something else
        raise (KeyStoreError("key-wrong") if error.code == "object-malformed" else error) from None
    if any(tag.group == _MARK_GROUP for tag in content.keys()):  # noqa: SIM118 - a Data Set iterates over parsed elements
        _prove_mark(opened, str(dataset.get("SOPInstanceUID") or ""))
    modified = content.get("ModifiedAttributesSequence")
    if not modified:
        raise StudyError("object-not-reidentifiable")
    if syntax_of(dataset) == BIG_ENDIAN:
        swap_words(modified[0])
    restored = Dataset()
    restored.update(dataset)
    for keyword in _FLAGS:
        if keyword in restored:
            delattr(restored, keyword)
    restored.update(modified[0])
    restored.file_meta = dataset.file_meta
    return restored


def _mark(encoded: bytes, sop_instance_uid: str) -> bytes:
    """What stands behind a content, encoded: its group is the last."""
    mark = Dataset()
    block = mark.private_block(_MARK_GROUP, _MARK_CREATOR, create=True)
    block.add_new(0x01, "UI", sop_instance_uid)
    block.add_new(0x02, "OB", hashlib.sha256(encoded).digest())
    return bytes(encode_dataset(mark, EXPLICIT_LITTLE))


def _prove_mark(content: bytes, sop_instance_uid: str) -> None:
    """``key-wrong`` unless the mark of a content is that of its bytes and of this object."""
    length = len(_mark(b"", sop_instance_uid))
    if content[-length:] != _mark(content[:-length], sop_instance_uid):
        raise KeyStoreError("key-wrong")


def _open(content: bytes, certificate: x509.Certificate, key: RSAPrivateKey) -> bytes | None:
    """Content of an envelope; None where it is not for this key or was changed."""
    length = _der_length(content)
    try:
        return pkcs7_decrypt_der(content[:length], certificate, key, [])
    except (ValueError, UnsupportedAlgorithm):
        return None


def _der_length(content: bytes) -> int:
    """Length of the outermost element (X.690 8.1.3), without what pads it."""
    if len(content) < 2 or content[1] < 0x80:
        return len(content)
    count = content[1] & 0x7F
    return 2 + count + int.from_bytes(content[2 : 2 + count], "big")
