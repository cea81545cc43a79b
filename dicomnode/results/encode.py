"""The way of a result: build in pseudonymous space, restore the identity, encode, decode again, prove.

May live here: the order of the steps. What is returned is what is sealed and sent, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.encoded import encode_dataset
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError, StudyError
from dicomnode.findings import Findings
from dicomnode.identity import SourceIdentity
from dicomnode.results import capture, checks, report, segmentation
from dicomnode.results.context import ResultContext
from dicomnode.results.identity import restore, source_attributes
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.study import ResultRole

_TRANSFER_SYNTAX: Final = str(ExplicitVRLittleEndian)
_SOURCE_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyImage:
    """The picture for viewers that show neither segmentation nor report.

    Attributes
    ----------
    rgb
        uint8 (rows, columns, 3).
    slices
        Indices in source order of the slices that it shows.
    """

    rgb: NDArray[np.uint8] = field(repr=False)
    slices: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultInput:
    """What the results of one series are made of.

    Attributes
    ----------
    labels
        uint8 (slices, rows, columns) on the source grid, in source order; 0 is background.
    sources
        Headers of the pseudonymous copies in source order; pixel data is not needed.
    contours
        One per segment that has a voxel, on its key slice.
    key_image
        None: no key image is wanted.
    predecessor
        The report that this one replaces, in the space of the source.
    """

    labels: NDArray[np.uint8] = field(repr=False)
    sources: Sequence[Dataset] = field(repr=False)
    findings: Findings
    contours: tuple[KeyContour, ...] = field(repr=False)
    key_image: KeyImage | None
    predecessor: Predecessor | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedResult:
    """One object, ready to be sealed and sent.

    Attributes
    ----------
    encoded
        The Data Set, without Part 10 header, in the transfer syntax named.
    digest
        SHA-256 of `encoded`, in hex.
    """

    role: ResultRole
    sop_class_uid: str
    sop_instance_uid: str = field(repr=False)
    series_instance_uid: str = field(repr=False)
    transfer_syntax_uid: str
    encoded: bytes = field(repr=False)
    digest: str


def encode_results(given: ResultInput, context: ResultContext, identity: SourceIdentity) -> tuple[EncodedResult, ...]:
    """Segmentation, report and key image of one series, proved and encoded.

    Parameters
    ----------
    identity
        Of the source series, from the vault.

    Returns
    -------
    tuple of EncodedResult
        In the order in which they are best sent: what is referred to comes first.

    Raises
    ------
    StudyError
        ``nothing-found`` if no segment has a voxel; ``geometry-attribute-missing``; ``result-*`` if a proof fails.
    """
    source = source_attributes(identity)
    minted: set[str] = {context.device_uid}
    context = _recording(context.in_timezone(str(source.get("TimezoneOffsetFromUTC") or "")), minted)
    try:
        with hushed():
            objects = _build(given, context)
            restored = [(role, restore(dataset, identity)) for role, dataset in objects]
            encoded = [_encode(role, dataset) for role, dataset in restored]
            _prove(encoded, given, source, identity, minted)
    except NodeError:
        raise
    except Exception:  # noqa: BLE001 (of the libraries below: their messages may quote a value)
        raise StudyError("result-invalid", check="build") from None
    return tuple(encoded)


def _recording(context: ResultContext, minted: set[str]) -> ResultContext:
    """The same context, which notes every UID that it mints."""

    def mint(role: str, *parts: str) -> str:
        uid = context.mint(role, *parts)
        minted.add(uid)
        return uid

    return replace(context, mint=mint)


def _build(given: ResultInput, context: ResultContext) -> list[tuple[ResultRole, Dataset]]:
    seg = segmentation.build(given.labels, given.sources, given.findings, context)
    sr = report.build(seg, given.sources, given.findings, given.contours, context, predecessor=given.predecessor)
    objects = [(ResultRole.SEGMENTATION, seg), (ResultRole.REPORT, sr)]
    if given.key_image is not None:
        picture = given.key_image
        sc = capture.build(picture.rgb, given.sources, given.findings, context, key_slices=picture.slices)
        objects.append((ResultRole.KEY_IMAGE, sc))
    return objects


def _encode(role: ResultRole, dataset: Dataset) -> EncodedResult:
    data = encode_dataset(dataset, _TRANSFER_SYNTAX)
    return EncodedResult(
        role=role,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=_TRANSFER_SYNTAX,
        encoded=data,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _prove(
    results: Sequence[EncodedResult], given: ResultInput, source: Dataset, identity: SourceIdentity, minted: set[str]
) -> None:
    """All proofs of `checks` on the bytes that will be sent."""
    known = minted | {
        identity.uids.get(str(header[keyword].value), str(header[keyword].value))
        for header in given.sources
        for keyword in _SOURCE_UIDS
    }
    if given.predecessor is not None:
        old = given.predecessor
        known |= {old.study_instance_uid, old.series_instance_uid, old.sop_instance_uid}
    frame_of_reference = str(given.sources[0].FrameOfReferenceUID)
    source.FrameOfReferenceUID = identity.uids.get(frame_of_reference, frame_of_reference)
    decoded = {result.role: checks.decode(result.encoded) for result in results}
    for dataset in decoded.values():
        checks.prove_valid(dataset, identity.uids)
        checks.prove_identity(dataset, source)
        checks.prove_references(dataset, known)
    segmentation_object = decoded[ResultRole.SEGMENTATION]
    checks.prove_geometry(segmentation_object, given.labels, given.sources)
    checks.prove_report(decoded[ResultRole.REPORT], segmentation_object)
