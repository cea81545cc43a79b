"""The ways that `make bench-results` compares, each to be run in a process of its own, and the comparison of objects."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode import coding
from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import encode_part10
from dicomnode.encoded.quiet import hushed
from dicomnode.findings import Algorithm, Findings, Segment
from dicomnode.identity import SourceIdentity
from dicomnode.imaging import measure, volume
from dicomnode.imaging.census import take_census
from dicomnode.imaging.geometry import arrange
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.imaging.plane import plane_of
from dicomnode.imaging.tally import take_tally
from dicomnode.manifest import Density
from dicomnode.results import checks, checks_frames, prepared
from dicomnode.results.encode import EncodedResult, ResultInput, encode_results, prepare_results
from dicomnode.storage.files import replace_file
from dicomnode.study import ResultRole, mint_uid
from dicomnode.texts import Words
from dicomnode.workflow.analysis import Analysis, contours_of
from dicomnode.workflow.picture import picture_of
from tests.unit.results.material import KEY, context_for

SIDE = 512
EXPLICIT = "1.2.840.10008.1.2.1"
ORGAN = coding.sct("39607008", "Lung")
SPACING = (1.0, 0.7, 0.7)


def write_series(folder: Path, slices: int, side: int) -> None:
    """A CT series, and its voxels beside it."""
    folder.mkdir()
    rng = np.random.default_rng(3)
    noise = rng.normal(-850, 60, (side, side)).astype(np.int16)
    values = np.stack([np.roll(noise, index, axis=0) for index in range(slices)])
    np.save(folder.parent / "volume.npy", values)
    for index, image in enumerate(ct_series(values, SPACING)):
        (folder / f"{index:04}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))


def write_labels(folder: Path, labels: NDArray[np.uint8], segments: int) -> None:
    """The label map as our ways read it, and as dcmqi reads it."""
    np.save(folder / f"labels-{segments}.npy", labels)
    first = headers(folder)[0]
    origin = ",".join(str(value) for value in first.ImagePositionPatient)
    z, y, x = SPACING
    text = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {labels.shape[2]} {labels.shape[1]} {labels.shape[0]}\n"
        f"space directions: ({x},0,0) (0,{y},0) (0,0,{z})\nkinds: domain domain domain\n"
        f"encoding: raw\nspace origin: ({origin})\n\n"
    )
    with (folder / f"labels-{segments}.nrrd").open("wb") as file:
        file.write(text.encode("ascii"))
        labels.tofile(file)
    attributes = [
        {
            "labelID": segment.number,
            "SegmentLabel": segment.label,
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentAlgorithmName": "bench",
            "SegmentedPropertyCategoryCodeSequence": _code(segment.category),
            "SegmentedPropertyTypeCodeSequence": _code(segment.type),
            "recommendedDisplayRGBValue": list(segment.colour),
        }
        for segment in described(segments).segments
    ]
    series = {"ContentCreatorName": "bench", "SeriesNumber": "9000", "InstanceNumber": "1", "SeriesDescription": "b"}
    meta = {**series, "segmentAttributes": [attributes]}
    (folder / f"labels-{segments}.json").write_text(json.dumps(meta))


def _code(concept: coding.CodedConcept) -> dict[str, str]:
    return {
        "CodeValue": concept.value,
        "CodingSchemeDesignator": concept.scheme,
        "CodeMeaning": concept.meaning,
    }


def described(segments: int) -> Findings:
    """The model: its segments, and nothing found yet."""
    return Findings(
        algorithm=Algorithm(
            name="bench",
            version="1",
            title="Benchmark",
            manufacturer="dicomnode project",
            digest="0" * 64,
            engine="none",
            research_only=True,
        ),
        segments=tuple(
            Segment(
                number=number,
                label=f"Region {number}",
                category=coding.ANATOMICAL_STRUCTURE,
                type=ORGAN,
                laterality=None,
                colour=(40 + number * 2 % 200, 90, 200),
            )
            for number in range(1, segments + 1)
        ),
        regions=(),
    )


def headers(folder: Path) -> list[Dataset]:
    """Headers of the series, in source order."""
    return [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted((folder / "ct").iterdir())]


def pseudonymous(originals: list[Dataset]) -> tuple[list[Dataset], SourceIdentity]:
    """Headers under other UIDs, and the way back."""
    uids: dict[str, str] = {}
    copies = []
    for original in originals:
        copy = Dataset()
        copy.update(original)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            uid = str(original[keyword].value)
            new = mint_uid(KEY, "pseudonym", uid)
            del copy[keyword]
            setattr(copy, keyword, new)
            uids[new] = uid
        copies.append(copy)
    return copies, source_identity([originals[0]], uids)


def peak_megabytes() -> int:
    """Peak of this program alone: what getrusage says begins with the memory of whoever started it."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) // 1024 if found else 0


class Watch:
    """CPU and wall seconds of parts."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done within is this part's."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.parts[name] = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}


def ours(folder: Path, segments: int) -> dict[str, Any]:
    """The node's way, from the labels to three objects on the disk; then the segmentation by itself."""
    watch = Watch()
    copies, identity = pseudonymous(headers(folder))
    context = context_for()
    with watch.part("prepared"):
        ready = prepare_results(copies, described(segments), context, identity)
    assert ready is not None
    with watch.part("measured"):
        analysis = analysed(folder, copies, segments)
    with watch.part("after the labels"):
        with watch.part("  outlines"):
            outlines = contours_of(analysis)
        with watch.part("  picture"):
            picture = picture_of(analysis, Words())
        with watch.part("  encode and prove"):
            given = ResultInput(
                labels=analysis.labels,
                sources=copies,
                findings=analysis.findings,
                contours=outlines,
                key_image=picture,
                census=analysis.census,
            )
            results = encode_results(given, context, identity, ready)
        with watch.part("  write and sync"):
            for result in results:
                _write(folder / f"ours-{segments}-{result.role.value}.dcm", result)
    watch.parts["peak memory MB"] = peak_megabytes()
    with watch.part("segmentation"), hushed():
        made = prepared.complete(ready, analysis.labels, analysis.findings, identity, take_census(analysis.labels))
        again = dataclasses.replace(results[0], encoded=made.encoded)
        _write(folder / f"ours-{segments}-again.dcm", again)
    with watch.part("  its proof"), hushed():
        checks.prove_valid(checks.decode(prepared.excerpt(made)), identity.uids)
        values = dict(enumerate(made.values, start=1))
        checks_frames.prove_frames(*prepared.parts(made), analysis.labels, values, ready.planes)
    assert bytes(again.encoded) == bytes(results[0].encoded)
    return watch.parts


def _write(path: Path, result: EncodedResult) -> None:
    replace_file(path, result.part10())


def analysed(folder: Path, copies: list[Dataset], segments: int) -> Analysis:
    """Labels and measurements, as the network's stage leaves them."""
    labels = np.load(folder / f"labels-{segments}.npy")
    whole = volume.Volume(
        values=np.load(folder / "volume.npy", mmap_mode="r"),
        geometry=arrange([plane_of(copy) for copy in copies]),
        padding=None,
        sop_instance_uids=tuple(str(copy.SOPInstanceUID) for copy in copies),
    )
    model = described(segments)
    tally = take_tally(whole.values, labels, None, segments + 1)
    regions, remarks = measure.measure(
        whole.values,
        labels,
        None,
        whole.geometry,
        model.segments,
        density=Density(),
        acquisition=measure.acquisition_of(copies[0]),
        tally=tally,
    )
    findings = dataclasses.replace(model, regions=regions, remarks=remarks)
    return Analysis(sources=tuple(copies), volume=whole, labels=labels, findings=findings, tally=tally)


def highdicom(folder: Path, segments: int) -> dict[str, Any]:
    """Plain highdicom on the same headers and the same label map, warmed up on two slices."""
    watch = Watch()
    originals = headers(folder)
    labels = np.load(folder / f"labels-{segments}.npy")
    described_by = _descriptions(segments)
    warm = np.zeros((2, SIDE, SIDE), np.uint8)
    warm[:, :segments, 0] = np.arange(1, segments + 1)
    _segmentation(originals[:2], warm, described_by)
    with watch.part("segmentation"):
        made = _segmentation(originals, labels, described_by)
        made.save_as(folder / f"highdicom-{segments}.dcm")
    watch.parts["peak memory MB"] = peak_megabytes()
    return watch.parts


def _segmentation(originals: list[Dataset], labels: NDArray[np.uint8], described_by: list[Any]) -> Any:
    return Segmentation(
        source_images=originals,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=described_by,
        series_instance_uid=mint_uid(KEY, "series"),
        series_number=9000,
        sop_instance_uid=mint_uid(KEY, "object"),
        instance_number=1,
        manufacturer="bench",
        manufacturer_model_name="bench",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=True,
        pixel_measures=PixelMeasuresSequence(
            pixel_spacing=SPACING[1:], slice_thickness=SPACING[0], spacing_between_slices=SPACING[0]
        ),
    )


def _descriptions(segments: int) -> list[Any]:
    model = described(segments)
    family = CodedConcept("123110", "DCM", "Artificial Intelligence")
    return [
        SegmentDescription(
            segment_number=segment.number,
            segment_label=segment.label,
            segmented_property_category=CodedConcept(**_triplet(segment.category)),
            segmented_property_type=CodedConcept(**_triplet(segment.type)),
            algorithm_type="AUTOMATIC",
            algorithm_identification=AlgorithmIdentificationSequence(name="bench", family=family, version="1"),
            tracking_uid=mint_uid(KEY, "tracking", str(segment.number)),
            tracking_id=segment.label,
            display_color=CIELabColor.from_rgb(*segment.colour),
        )
        for segment in model.segments
    ]


def _triplet(concept: coding.CodedConcept) -> dict[str, str]:
    return {"value": concept.value, "scheme_designator": concept.scheme, "meaning": concept.meaning}


def differences(folder: Path, segments: int) -> list[str]:
    """Where our segmentation says something else than a peer's: pixels, places, sources, functional groups."""
    ours = pydicom.dcmread(folder / f"ours-{segments}-{ResultRole.SEGMENTATION.value}.dcm")
    plain = pydicom.dcmread(folder / f"highdicom-{segments}.dcm")
    other = pydicom.dcmread(folder / f"dcmqi-{segments}.dcm")
    found = []
    if bytes(ours.PixelData) != bytes(plain.PixelData):
        found.append("highdicom: pixels")
    for keyword in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        if ours[keyword].value != plain[keyword].value:
            found.append(f"highdicom: {keyword}")
    mine, theirs = dict(_frames(ours)), dict(_frames(other))
    if mine.keys() != theirs.keys():
        found.append(f"dcmqi: {len(mine.keys() ^ theirs.keys())} frames of another segment, place or source")
    elif any(not np.array_equal(mine[key], theirs[key]) for key in mine):
        found.append("dcmqi: pixels")
    return found


def _frames(dataset: Dataset) -> Iterator[tuple[tuple[object, ...], NDArray[np.uint8]]]:
    """Segment, place and source of every frame, and its bits."""
    size = int(dataset.Rows) * int(dataset.Columns) // 8
    data = np.frombuffer(dataset.PixelData, np.uint8)
    for index, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        position = tuple(round(float(v), 3) for v in group.PlanePositionSequence[0].ImagePositionPatient)
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        yield (number, position, str(source)), data[index * size : (index + 1) * size]


if __name__ == "__main__":
    print(json.dumps({"ours": ours, "highdicom": highdicom}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))))
