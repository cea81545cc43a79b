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

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.encoded import Buffer, encode_dataset, wrap_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.errors import NodeError, StudyError
from dicomnode.findings import Algorithm, Findings
from dicomnode.forms import Form, Variant
from dicomnode.identity import SourceIdentity
from dicomnode.results import (
    checks,
    checks_content,
    checks_contours,
    checks_frames,
    geometry,
    key_objects,
    outcome,
    parametric_map,
    pdf,
    prepared,
    report,
    report_library,
)
from dicomnode.results.build import BINARY, REPORTS, Builder, KeyImage, ResultInput
from dicomnode.results.context import ResultContext
from dicomnode.results.equipment import model_uid
from dicomnode.results.identity import restore
from dicomnode.results.library_tables import forget_tables
from dicomnode.results.prepared import Completed, Prepared
from dicomnode.results.report import Predecessor
from dicomnode.results.restorable import proved
from dicomnode.study import ResultRole

__all__ = [
    "EncodedResult",
    "KeyImage",
    "ResultInput",
    "encode_outcome",
    "encode_rejection",
    "encode_results",
    "prepare_results",
]

_TRANSFER_SYNTAX: Final = str(ExplicitVRLittleEndian)
_SOURCE_UIDS: Final = ("SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedResult:
    """One object, ready to be sealed and sent.

    Attributes
    ----------
    form
        `forms.Variant.name`.
    encoded
        The Data Set, without Part 10 header, in the transfer syntax named.
    digest
        SHA-256 of `encoded`, in hex.
    """

    role: ResultRole
    form: str
    sop_class_uid: str
    sop_instance_uid: str = field(repr=False)
    series_instance_uid: str = field(repr=False)
    transfer_syntax_uid: str
    encoded: Buffer = field(repr=False)
    digest: str

    def part10(self) -> tuple[bytes, Buffer]:
        """A whole file (PS3.10 7.1), in two pieces."""
        head = wrap_part10(
            b"",
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )
        return head, self.encoded


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
    identity, source = proved(identity)
    minted = {context.device_uid, model_uid(findings.algorithm)}
    context = recording(_local(context, source), minted).written_as(BINARY.name)
    with _coded_errors(), hushed():
        ready = prepared.prepare(sources, findings, context, identity)
        if ready is None:
            return None
        expected, known = _expected(source, sources, identity), minted | _known(sources, identity)
        sample = checks_content.decode_alike(prepared.sample(ready, identity), prepared.REPEATED)
        prove_header(sample, expected, known, identity)
        for sop_class_uid in {str(header.SOPClassUID) for header in ready.series.headers}:
            report_library.modality_of(sop_class_uid)
    forget_tables()
    return replace(ready, minted=frozenset(minted))


def encode_results(
    given: ResultInput, context: ResultContext, identity: SourceIdentity, ready: Prepared | None = None
) -> tuple[EncodedResult, ...]:
    """The objects of one series that are wanted, proved and encoded.

    Parameters
    ----------
    identity
        Of the source series, from the vault.
    ready
        What `prepare_results` made for these sources, segments and context; for others it is left aside.

    Returns
    -------
    tuple of EncodedResult
        In the order of `given.variants`.

    Raises
    ------
    StudyError
        ``nothing-found`` if there is nothing to tell; ``geometry-attribute-missing``; ``identity-unwritable``;
        ``result-*`` if a proof fails.
    """
    identity, source = proved(identity)
    minted = {context.device_uid, model_uid(given.findings.algorithm)}
    context = recording(_local(context, source), minted)
    if ready is not None and not ready.fits(given.sources, given.findings, context.written_as(BINARY.name)):
        ready = None
    minted |= frozenset() if ready is None else ready.minted
    with _coded_errors(), hushed():
        completed = (
            None if ready is None else prepared.complete(ready, given.labels, given.findings, identity, given.census)
        )
        builder = Builder(given, context, source, completed, None if ready is None else ready.series)
        encoded = [_encoded(variant, builder, identity) for variant in builder.variants]
        _prove(encoded, builder, source, identity, minted)
        if completed is not None and ready is not None:
            _prove_frames(completed, ready, given)
    return tuple(encoded)


def _local(context: ResultContext, source: Dataset) -> ResultContext:
    """The context on the clock of its source."""
    return context.in_timezone(str(source.get("TimezoneOffsetFromUTC") or ""))


def _encoded(variant: Variant, builder: Builder, identity: SourceIdentity) -> EncodedResult:
    if builder.completed is not None and variant == BINARY:
        return _result(variant, builder.completed.header, builder.completed.encoded)
    if variant.form in REPORTS:
        return _result(variant, *report.encode(builder.report(variant), identity))
    return encode_object(variant, restore(builder.build(variant), identity))


def encode_outcome(
    code: str,
    header: Dataset,
    findings: Findings,
    context: ResultContext,
    identity: SourceIdentity,
    *,
    variants: Sequence[Variant],
    predecessor: Predecessor | None = None,
) -> tuple[EncodedResult, ...]:
    """The document that says why there are no other results, proved and encoded.

    Parameters
    ----------
    code
        ``nothing-found``, or why the study was not processed.
    header
        Of an image that was looked at, in the space of `identity`'s keys or, where nothing was mapped, its own.
    findings
        Of the model: what was sought.

    Raises
    ------
    StudyError
        ``result-*`` if a proof fails.
    """
    identity, source = proved(identity)
    minted = {context.device_uid, model_uid(findings.algorithm)}
    context = recording(_local(context, source), minted)
    with _coded_errors(), hushed():
        made = []
        for variant in variants:
            written = context.written_as(variant.name)
            if variant.form is Form.PDF:
                dataset = pdf.build_outcome(_page(code, findings, written, source), header, written)
            else:
                dataset = outcome.build_outcome(code, header, findings, written, predecessor)
            made.append(encode_object(variant, restore(dataset, identity)))
        prove_documents(made, [header], source, identity, minted | _named(predecessor))
    return tuple(made)


def _page(code: str, findings: Findings, context: ResultContext, source: Dataset) -> pdf.Page:
    return pdf.Page(
        picture=None,
        findings=findings,
        identity=source,
        found=frozenset(),
        words=context.words,
        made=f"{context.content_datetime:%Y-%m-%d %H:%M} {context.station_name}",
        outcome=code,
    )


def encode_rejection(
    rejected: Sequence[Dataset],
    algorithm: Algorithm,
    context: ResultContext,
    identity: SourceIdentity,
    *,
    wrong: bool = False,
) -> EncodedResult:
    """A rejection note of earlier results, proved and encoded; its form is that of `context`.

    Parameters
    ----------
    rejected
        Headers of what is retracted, in the space of the source.
    """
    identity, source = proved(identity)
    minted = {context.device_uid, model_uid(algorithm)}
    context = recording(_local(context, source), minted)
    variant = Variant(role=ResultRole.REJECTION, form=Form.KEY_OBJECTS)
    with _coded_errors(), hushed():
        note = key_objects.build_rejection(rejected, algorithm, context, wrong=wrong)
        made = replace(encode_object(variant, restore(note, identity)), form=context.form or variant.name)
        prove_documents([made], rejected, source, identity, minted)
    return made


@contextmanager
def _coded_errors() -> Iterator[None]:
    try:
        yield
    except NodeError:
        raise
    except Exception:  # noqa: BLE001 (of the libraries below: their messages may quote a value)
        raise StudyError("result-invalid", check="build") from None


def recording(context: ResultContext, minted: set[str]) -> ResultContext:
    """The same context, which notes every UID that it mints."""

    def mint(role: str, *parts: str) -> str:
        uid = context.mint(role, *parts)
        minted.add(uid)
        return uid

    return replace(context, mint=mint)


def encode_object(variant: Variant, dataset: Dataset) -> EncodedResult:
    """Bytes of an object."""
    return _result(variant, dataset, encode_dataset(dataset, _TRANSFER_SYNTAX))


def _result(variant: Variant, dataset: Dataset, data: Buffer) -> EncodedResult:
    return EncodedResult(
        role=variant.role,
        form=variant.name,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        transfer_syntax_uid=_TRANSFER_SYNTAX,
        encoded=data,
        digest=hashlib.sha256(data).hexdigest(),
    )


def _prove(
    results: Sequence[EncodedResult], builder: Builder, source: Dataset, identity: SourceIdentity, minted: set[str]
) -> None:
    """All proofs of `checks` on the bytes that will be sent."""
    given = builder.given
    known = minted | _known(given.sources, identity) | _named(given.predecessor)
    expected = _expected(source, given.sources, identity)
    decoded = [_decoded(result, builder.completed) for result in results]
    for dataset in decoded:
        prove_header(dataset, expected, known, identity)
    segmentations = [] if builder.binary is None else [builder.binary]
    segmentations += [one for one in decoded if "SegmentSequence" in one]
    segments: list[dict[int, str]] = []
    for tracked in [checks.tracked(one) for one in segmentations] or [{}]:
        segments += [] if tracked in segments else [tracked]
    for result, dataset in zip(results, decoded, strict=True):
        variant = Variant.of(result.role, result.form)
        if variant.form in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D):
            for one in segments:
                checks.prove_report(dataset, one)
        elif variant != BINARY or builder.completed is None:
            _prove_geometry(variant.form, dataset, given, identity)


def _prove_geometry(form: Form, dataset: Dataset, given: ResultInput, identity: SourceIdentity) -> None:
    """What has frames or outlines gives back what it was made of."""
    if form in (Form.BINARY, Form.FRACTIONAL, Form.LABELMAP):
        geometry.prove_segmentation(dataset, given.labels, given.sources)
    elif form is Form.RTSTRUCT:
        checks_contours.prove_structures(dataset, given.labels, given.sources, identity.uids)
    elif form is Form.MAP and given.voxel_map is not None:
        geometry.prove_map(dataset, parametric_map.stored(given.voxel_map.values), given.sources)


def _prove_frames(completed: Completed, ready: Prepared, given: ResultInput) -> None:
    """Every frame by its bytes: its item is the plane's proved one, its pixels are the label map's."""
    items, pixels = prepared.parts(completed)
    values = dict(enumerate(completed.values, start=1))
    checks_frames.prove_frames(items, pixels, given.labels, values, ready.planes)


def _decoded(result: EncodedResult, completed: Completed | None) -> Dataset:
    """The object out of its bytes; of a completed segmentation, what was not proved when it was prepared."""
    variant = Variant.of(result.role, result.form)
    if variant.form in REPORTS:
        return checks_content.decode_report(bytes(result.encoded))
    if completed is None or variant != BINARY:
        return checks.decode(result.encoded)
    return checks.decode(prepared.excerpt(completed))


def prove_documents(
    results: Sequence[EncodedResult],
    headers: Sequence[Dataset],
    source: Dataset,
    identity: SourceIdentity,
    minted: set[str],
) -> None:
    """What is proved of every object: it is valid, has the source's identity, and refers to nothing unknown."""
    known, expected = minted | _known(headers, identity), _expected(source, headers, identity)
    for result in results:
        prove_header(checks.decode(result.encoded), expected, known, identity)


def prove_header(decoded: Dataset, expected: Dataset, known: AbstractSet[str], identity: SourceIdentity) -> None:
    """The same of one decoded object."""
    checks.prove_valid(decoded, identity.uids)
    checks.prove_identity(decoded, expected)
    checks.prove_references(decoded, known)


def _known(sources: Sequence[Dataset], identity: SourceIdentity) -> set[str]:
    """UIDs of the source series, in its own space."""
    found = (str(header.get(keyword) or "") for header in sources for keyword in _SOURCE_UIDS)
    return {identity.uids.get(uid, uid) for uid in found if uid}


def _expected(source: Dataset, sources: Sequence[Dataset], identity: SourceIdentity) -> Dataset:
    """The attributes of the vault, and the Frame of Reference."""
    frame_of_reference = str(sources[0].get("FrameOfReferenceUID") or "")
    if frame_of_reference:
        source.FrameOfReferenceUID = identity.uids.get(frame_of_reference, frame_of_reference)
    return source


def _named(predecessor: Predecessor | None) -> set[str]:
    if predecessor is None:
        return set()
    return {predecessor.study_instance_uid, predecessor.series_instance_uid, predecessor.sop_instance_uid}
