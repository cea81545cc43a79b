"""The way of a result: build in pseudonymous space, restore the identity, encode, decode again, prove.

May live here: the order of the steps. What is returned is what is sealed and sent, byte for byte.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
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
from dicomnode.results import capture, checks, checks_frames, prepared, report, segmentation
from dicomnode.results.context import ResultContext
from dicomnode.results.identity import restore, source_attributes
from dicomnode.results.prepared import Completed, Prepared
from dicomnode.results.report import Predecessor
from dicomnode.results.report_groups import KeyContour
from dicomnode.results.sources import read_sources
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


def prepare_results(
    sources: Sequence[Dataset], findings: Findings, context: ResultContext, identity: SourceIdentity
) -> Prepared | None:
    """What of the results can be made before there are any: while the network runs.

    Parameters
    ----------
    findings
        Algorithm and segments of the model; what was found is not looked at.

    Returns
    -------
    Prepared or None
        For `encode_results`, which gives the same bytes with it and without it.

    Raises
    ------
    StudyError
        As `encode_results`.
    """
    source = source_attributes(identity)
    minted: set[str] = {context.device_uid}
    context = _recording(_local(context, source), minted)
    with _one_error(), hushed():
        ready = prepared.prepare(sources, findings, context, identity)
        if ready is None:
            return None
        decoded = checks.decode(prepared.sample(ready, identity))
        _prove_header(decoded, _expected(source, sources, identity), _known(sources, identity) | minted, identity)
    return replace(ready, minted=frozenset(minted))


def encode_results(
    given: ResultInput, context: ResultContext, identity: SourceIdentity, ready: Prepared | None = None
) -> tuple[EncodedResult, ...]:
    """Segmentation, report and key image of one series, proved and encoded.

    Parameters
    ----------
    identity
        Of the source series, from the vault.
    ready
        What `prepare_results` made for these sources, segments and context; for others it is left aside.

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
    context = _recording(_local(context, source), minted)
    if ready is not None and not ready.fits(given.sources, given.findings, context):
        ready = None
    minted |= frozenset() if ready is None else ready.minted
    with _one_error(), hushed():
        made = _make(given, context, identity, ready)
        _prove(made, given, source, identity, minted)
    return made.results


def _local(context: ResultContext, source: Dataset) -> ResultContext:
    """The context on the clock of its source."""
    return context.in_timezone(str(source.get("TimezoneOffsetFromUTC") or ""))


@contextmanager
def _one_error() -> Iterator[None]:
    """Whatever goes wrong within is one coded error."""
    try:
        yield
    except NodeError:
        raise
    except Exception:  # noqa: BLE001 (of the libraries below: their messages may quote a value)
        raise StudyError("result-invalid", check="build") from None


def _recording(context: ResultContext, minted: set[str]) -> ResultContext:
    """The same context, which notes every UID that it mints."""

    def mint(role: str, *parts: str) -> str:
        uid = context.mint(role, *parts)
        minted.add(uid)
        return uid

    return replace(context, mint=mint)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """Results, not proved yet.

    Attributes
    ----------
    ready, completed
        What the segmentation was made of, where it was prepared.
    """

    results: tuple[EncodedResult, ...]
    ready: Prepared | None
    completed: Completed | None


def _make(given: ResultInput, context: ResultContext, identity: SourceIdentity, ready: Prepared | None) -> _Made:
    series = read_sources(given.sources) if ready is None else ready.series
    completed = None
    if ready is None:
        seg = segmentation.build(given.labels, series, given.findings, context)
        results = [_encode(ResultRole.SEGMENTATION, restore(seg, identity))]
    else:
        completed = prepared.complete(ready, given.labels, given.findings, identity)
        seg = completed.pseudonymous
        results = [_result(ResultRole.SEGMENTATION, completed.header, completed.encoded)]
    sr = report.build(seg, series, given.findings, given.contours, context, predecessor=given.predecessor)
    results.append(_encode(ResultRole.REPORT, restore(sr, identity)))
    if given.key_image is not None:
        picture = given.key_image
        sc = capture.build(picture.rgb, series, given.findings, context, key_slices=picture.slices)
        results.append(_encode(ResultRole.KEY_IMAGE, restore(sc, identity)))
    return _Made(results=tuple(results), ready=ready, completed=completed)


def _encode(role: ResultRole, dataset: Dataset) -> EncodedResult:
    return _result(role, dataset, encode_dataset(dataset, _TRANSFER_SYNTAX))


def _result(role: ResultRole, dataset: Dataset, data: bytes) -> EncodedResult:
    return EncodedResult(
        role=role,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=_TRANSFER_SYNTAX,
        encoded=data,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _prove(made: _Made, given: ResultInput, source: Dataset, identity: SourceIdentity, minted: set[str]) -> None:
    """All proofs of `checks` on the bytes that will be sent."""
    known = _known(given.sources, identity) | minted
    if given.predecessor is not None:
        old = given.predecessor
        known |= {old.study_instance_uid, old.series_instance_uid, old.sop_instance_uid}
    expected = _expected(source, given.sources, identity)
    decoded = {result.role: _decoded(result, made.completed) for result in made.results}
    for dataset in decoded.values():
        _prove_header(dataset, expected, known, identity)
    segmentation_object = decoded[ResultRole.SEGMENTATION]
    if made.completed is None or made.ready is None:
        checks.prove_geometry(segmentation_object, given.labels, given.sources)
    else:
        _prove_frames(made.completed, made.ready, given)
    checks.prove_report(decoded[ResultRole.REPORT], segmentation_object)


def _known(sources: Sequence[Dataset], identity: SourceIdentity) -> set[str]:
    """UIDs of the source series, in its own space."""
    return {
        identity.uids.get(str(header[keyword].value), str(header[keyword].value))
        for header in sources
        for keyword in _SOURCE_UIDS
    }


def _expected(source: Dataset, sources: Sequence[Dataset], identity: SourceIdentity) -> Dataset:
    """The attributes of the vault, and the Frame of Reference."""
    frame_of_reference = str(sources[0].FrameOfReferenceUID)
    source.FrameOfReferenceUID = identity.uids.get(frame_of_reference, frame_of_reference)
    return source


def _prove_header(decoded: Dataset, expected: Dataset, known: AbstractSet[str], identity: SourceIdentity) -> None:
    checks.prove_valid(decoded, identity.uids)
    checks.prove_identity(decoded, expected)
    checks.prove_references(decoded, known)


def _decoded(result: EncodedResult, completed: Completed | None) -> Dataset:
    """The object out of its bytes; of a completed segmentation, what was not proved when it was prepared."""
    if completed is None or result.role is not ResultRole.SEGMENTATION:
        return checks.decode(result.encoded)
    return checks.decode(prepared.excerpt(completed))


def _prove_frames(completed: Completed, ready: Prepared, given: ResultInput) -> None:
    """Every frame by its bytes: its item is the plane's proved one, its pixels are the label map's."""
    items, pixels = prepared.parts(completed)
    values = dict(enumerate(completed.values, start=1))
    checks_frames.prove_frames(items, pixels, given.labels, values, ready.planes)
