"""Which series of a study a model gets: a pure choice over headers, with a coded reason for every series refused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from pydicom import Dataset

from dicomnode.deidentification.issuers import universal_issuer
from dicomnode.deidentification.nesting import Node, own_encodings
from dicomnode.errors import StudyError
from dicomnode.imaging import frames
from dicomnode.imaging.gathering import planes_of
from dicomnode.imaging.geometry import VolumeGeometry, arrange
from dicomnode.manifest import InputRule
from dicomnode.series import SeriesSummary
from dicomnode.study import InstanceRow
from dicomnode.workflow.provenance import REFUSALS, Guard
from dicomnode.workflow.whose import disagreement


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyedSeries:
    """One series with what its headers say.

    Attributes
    ----------
    instance_keys
        In source order where the geometry is sound, else as they came.
    problem
        Code of why it cannot be worked on; None where it can.
    geometry
        Of all its images; None where it is not sound.
    doubt
        Code of why nobody knows in whose name its results would be; None where its images agree.
    """

    summary: SeriesSummary
    instance_keys: tuple[str, ...]
    problem: StudyError | None
    geometry: VolumeGeometry | None = None
    doubt: StudyError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One instance's header, with the keys under which the node knows it."""

    series_key: str
    instance_key: str
    dataset: Dataset


def without_pixels(dataset: Dataset) -> Dataset:
    """The same Data Set without its bulk: hundreds of headers are held at a time."""
    for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData", "EncapsulatedDocument"):
        if keyword in dataset:
            del dataset[keyword]
    return dataset


def relevant(rows: Sequence[InstanceRow], sop_classes: Collection[str]) -> tuple[InstanceRow, ...]:
    """Instances that are a study's input: those of the models' SOP Classes, or all where there is none of them.

    Reports, segmentations and captures that join a study, the node's own among them, thus open no new revision.
    """
    images = tuple(row for row in rows if row.sop_class_uid in sop_classes)
    return images or tuple(rows)


def survey(headers: Iterable[Header], rule: InputRule, guard: Guard) -> tuple[SurveyedSeries, ...]:
    """Group headers by series and look at the geometry of each; multi-frame images frame by frame.

    Images whose Image Type holds an excluded value are left out where the series has others: some scanners put the
    localizer into the series that it plans. So are images that the guard refuses; a series of nothing else has its code.
    """
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series_key].append(header)
    return tuple(_survey_one(key, members, rule, guard) for key, members in sorted(groups.items()))


def choose(series: Sequence[SurveyedSeries], rule: InputRule) -> SurveyedSeries:
    """Best series that the rule takes.

    Raises
    ------
    StudyError
        ``no-suitable-series`` where none is of the kind; the geometry's own code where one is but cannot be worked on;
        the guard's where it refuses what no rule takes either; ``patient-mismatch`` where the images of the best one say
        two names, birth dates, sexes or accession numbers: no other series is surer to be of whom it says.
    """
    best = rule.choose(item.summary for item in series if item.problem is None)
    if best is not None:
        chosen = next(item for item in series if item.summary is best)
        if chosen.doubt is not None:
            raise chosen.doubt
        return chosen
    refused = [(item, rule.judge(item.summary)) for item in series]
    for item, codes in sorted(refused, key=lambda pair: -pair[0].summary.slices):
        if not codes and item.problem is not None:
            raise item.problem
    for _, codes in sorted(refused, key=lambda pair: -pair[0].summary.slices):
        if codes and codes[0] != "no-suitable-series":
            raise StudyError(codes[0], series=len(series))
    for item in series:
        if item.problem is not None and item.problem.code in REFUSALS:
            raise item.problem
    raise StudyError("no-suitable-series", series=len(series))


def _survey_one(series_key: str, members: list[Header], rule: InputRule, guard: Guard) -> SurveyedSeries:
    excluded = {value.upper() for value in rule.excluded_image_types}
    members, problem = _let_through(members, guard)
    try:
        planes = [(header.instance_key, plane) for header in members for plane in frames.planes([header.dataset])]
    except StudyError as error:
        problem, planes = problem or error, [(header.instance_key, header.dataset) for header in members]
    kept = [one for one in planes if not excluded & set(image_type(one[1]))] or planes
    spacing = extent = found = None
    order: Sequence[int] = range(len(kept))
    try:
        found = arrange(planes_of(plane for _, plane in kept))
        order, spacing = found.order, found.widest_step
        extent = float(found.spacing[0]) * (found.shape[0] - 1)
    except StudyError as error:
        problem = problem or error
    first = kept[0][1]
    summary = SeriesSummary(
        series_key=series_key,
        modality=_text(first, "Modality"),
        sop_class_uid=_text(first, "SOPClassUID"),
        image_type=image_type(first),
        slices=len(kept),
        extent_mm=extent,
        slice_spacing_mm=spacing,
        kernel=_text(first, "ConvolutionKernel"),
        body_part=_text(first, "BodyPartExamined"),
        slice_thickness_mm=number(first, "SliceThickness"),
    )
    keys = tuple(dict.fromkeys(kept[index][0] for index in order))
    headers = {header.instance_key: header.dataset for header in members}
    doubt = disagreement(headers[key] for key in keys)
    return SurveyedSeries(summary=summary, instance_keys=keys, problem=problem, geometry=found, doubt=doubt)


def _let_through(members: list[Header], guard: Guard) -> tuple[list[Header], StudyError | None]:
    """Images that the guard lets through; all of them, with the first one's code, where it lets none through."""
    refusals = guard.refusals(header.dataset for header in members)
    if refusals[0] is not None and all(refusals):
        return members, StudyError(refusals[0])
    return [header for header, refusal in zip(members, refusals, strict=True) if refusal is None], None


def patient_of(dataset: Dataset) -> tuple[str, str]:
    """Patient ID and what qualifies it: what must be equal within a study.

    Returns
    -------
    tuple of str
        Patient ID (0010,0020) and its issuer, or the universal identifier of this. Where the id is empty: an empty
        string, and issuer, name, birth date and sex in one text (empty where there is none of them). With an id the name
        says nothing: scanners of one hospital spell it differently.
    """
    patient_id, issuer = (_text(dataset, keyword).strip() for keyword in ("PatientID", "IssuerOfPatientID"))
    if patient_id:
        return patient_id, issuer or universal_issuer(Node(dataset, own_encodings(dataset)))
    name = _plain_name(str(dataset.get("PatientName") or ""))
    known = (issuer, name, _text(dataset, "PatientBirthDate").strip(), _text(dataset, "PatientSex").strip().upper())
    return "", "\\".join(known) if any(known) else ""


def _plain_name(name: str) -> str:
    """A name without what its spelling may vary in (PS3.5 6.2.1): case, padding, empty trailing parts."""
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^ ") for group in name.split("="))
    return "=".join(groups).rstrip("=").casefold()


def image_type(dataset: Dataset) -> tuple[str, ...]:
    """Values of Image Type (0008,0008), upper case."""
    value = dataset.get("ImageType") or ()
    values = (value,) if isinstance(value, str) else tuple(value)
    return tuple(str(item).strip().upper() for item in values)


def number(dataset: Dataset, keyword: str) -> float | None:
    """First value of a numeric attribute, or None where there is none that can be read."""
    value = dataset.get(keyword)
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if value is None:
        return ""
    return str(value) if isinstance(value, str) else "\\".join(str(item) for item in value)
