"""The offline twins' workbench: the rooms of a node, joined for files in place of associations."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydicom import Dataset

from dicomnode import forms
from dicomnode.config import Config
from dicomnode.deidentification.vault import source_identity
from dicomnode.encoded import Buffer, read_file, read_part10, read_part10_raw, split_part10
from dicomnode.errors import ConfigError, NodeError, StudyError
from dicomnode.events import Fact
from dicomnode.identity import is_valid_uid
from dicomnode.imaging.decode import Decoder
from dicomnode.imaging.render import png
from dicomnode.inference.package import find
from dicomnode.results.encode import EncodedResult, KeyImage
from dicomnode.service import rooms
from dicomnode.service.rooms import Layout
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.files import replace_file
from dicomnode.storage.ledger import Ledger
from dicomnode.study import blind_key, input_digest
from dicomnode.texts import Words
from dicomnode.workflow.analysis import Analysis, Analyst, Issue
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.picture import picture_of
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.sameness import Sameness, compare
from dicomnode.workflow.selection import Header, patient_of, without_pixels
from dicomnode.workflow.whose import count_patients
from dicomnode.workflow.wishes import default_wishes, is_told, wishes_of

_OUTPUT_MODE: Final = 0o666  # less what the umask takes: it is the user's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files of one study.

    Attributes
    ----------
    paths
        By instance key, which tells instances apart within this study alone: another study may use the same SOP
        Instance UIDs.
    """

    study_key: str
    headers: tuple[Header, ...] = field(repr=False)
    paths: Mapping[str, Path] = field(repr=False)

    @property
    def name(self) -> str:
        """What the names of its results begin with."""
        return name_of(self.study_key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one model on one study: results, or the code of why there are none.

    Attributes
    ----------
    fault
        Whether there are none because the node failed, and not because of the study.
    lines
        What was found, for people.
    """

    study_key: str
    model: str
    seconds: float
    files: tuple[str, ...] = ()
    reason: str | None = None
    fault: bool = False
    facts: Mapping[str, int | float | str] = field(default_factory=dict)
    measurements: tuple[dict[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "study": self.study_key,
            "model": self.model,
            "seconds": round(self.seconds, 2),
            "files": list(self.files),
            "reason": self.reason,
            "fault": self.fault,
            "facts": dict(self.facts),
            "measurements": list(self.measurements),
            "remarks": list(self.remarks),
        }

    @property
    def lines(self) -> list[str]:
        """What was found, a line each."""
        units = Words()
        found = [
            f"{item['region']}: {item['name']} {item['value']:g} {units.unit(item['unit'])}".rstrip()
            for item in self.measurements
        ]
        return [*found, *self.remarks]


class Workbench:
    """Rooms for running models on files.

    Parameters
    ----------
    tree
        Configuration with its state folder filled in: keys and the times of issue are those of the node.
    environment
        The process's environment.
    model
        Name of the one model to run; None: all that are enabled.
    destination
        Name of the destination whose forms of results are written; None: the default ones.

    Raises
    ------
    NodeError
        When keys, ledger or models are not usable.
    """

    def __init__(
        self, tree: Config, environment: Mapping[str, str], model: str | None, destination: str | None = None
    ) -> None:
        found = [one for one in tree.destinations if one.name == destination]
        if destination is not None and not found:
            raise ConfigError("destination-not-found", destinations=len(tree.destinations))
        self._destination = found[0] if found else None
        layout = Layout.of(tree)
        rooms.make_state_folder(layout)
        ring = rooms.open_key_ring(tree, layout, environment, create=True)
        packages = rooms.load_packages(tree)
        if model is not None:
            packages = (find(packages, model),)
        self._key = ring.derivation
        self._digests = ContentDigests(ring.derivation)
        self._limits = limits_of(tree)
        self._reading = tree.reading
        self._ledger = Ledger.open(layout.ledger)
        #: What was said of each model's engine, by the model's name.
        self.engines: dict[str, dict[str, Fact]] = {}
        self._analysts = rooms.open_analysts(tree, ring, self._ledger, packages, emit=self._told_of_engines)
        #: By study key, then by instance key.
        self._taken: dict[str, dict[str, tuple[Header, Path]]] = {}

    def __enter__(self) -> Self:
        """The workbench itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give everything back."""
        for analyst in self._analysts.values():
            analyst.close()
        self._ledger.close()

    def _told_of_engines(self, _event: str, /, *, level: str = "info", **facts: Fact) -> None:
        self.engines[str(facts["model"])] = {"engine": facts["engine"], "reason": facts.get("reason")}

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that run."""
        return tuple(self._analysts)

    def add(self, path: Path) -> None:
        """Take a file in; the same content a second time changes nothing.

        Raises
        ------
        StudyError
            ``object-*`` when it is no DICOM object with the UIDs that it needs; ``same-uid-other-content`` when the
            study has this SOP Instance UID already, with other content: the first stays.
        """
        dataset = read_file(path, self._limits)
        uids = [str(dataset.get(name) or "") for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        if not all(uids):
            raise StudyError("object-without-uids")
        study, series, instance = uids
        members = self._taken.setdefault(blind_key(self._key, "study", study), {})
        instance_key = blind_key(self._key, "instance", instance)
        if instance_key in members:
            self._check_same(members[instance_key][1], path)
            return
        header = Header(
            series_key=blind_key(self._key, "series", study, series),
            instance_key=instance_key,
            dataset=without_pixels(dataset),
        )
        members[instance_key] = header, path

    def _check_same(self, first: Path, second: Path) -> None:
        data = bytes_of(first), bytes_of(second)
        if data[0] == data[1]:
            return
        with Decoder(
            timeout_seconds=self._reading.decode_timeout_seconds, memory_bytes=self._reading.decode_memory_bytes
        ) as decoder:
            try:
                one, other = (read_part10(item, self._limits) for item in data)
                sameness = compare(one, other, decoder.pixels)
            except Exception:  # noqa: BLE001 - whatever two objects hold: what cannot be compared is not the same
                raise StudyError("same-uid-other-content") from None
        if sameness is not Sameness.SAME:
            raise StudyError("same-uid-other-content")

    def studies(self) -> list[Files]:
        """What was taken in, a study each."""
        return [
            Files(
                study_key=key,
                headers=tuple(header for header, _ in members.values()),
                paths={name: path for name, (_, path) in members.items()},
            )
            for key, members in self._taken.items()
        ]

    def run(self, files: Files, model: str, output: Path, progress: Callable[[float], None]) -> Outcome:
        """One model on one study: results into a folder, or the code of why there are none."""
        analyst = self._analysts[model]
        began = time.monotonic()
        try:
            analysis, picture, results = self._results(files, analyst, progress)
        except ConfigError:
            raise
        except Exception as fault:  # noqa: BLE001 (the other studies are not to pay for this one)
            error = fault if isinstance(fault, NodeError) else NodeError("internal", kind=type(fault).__name__)
            told = self._told(files, analyst, error)
            return Outcome(
                study_key=files.study_key,
                model=model,
                seconds=time.monotonic() - began,
                files=tuple(self._write(files.study_key, model, output, None, told)),
                reason=error.code,
                fault=error.is_fault,
                facts=error.facts,
            )
        written = self._write(files.study_key, model, output, picture, results)
        return Outcome(
            study_key=files.study_key,
            model=model,
            seconds=time.monotonic() - began,
            files=tuple(written),
            measurements=tuple(analysis.findings.numbers()),
            remarks=(*analysis.findings.remarks, *_remarks_on_uids(files)),
        )

    def _results(
        self, files: Files, analyst: Analyst, progress: Callable[[float], None]
    ) -> tuple[Analysis, KeyImage, tuple[EncodedResult, ...]]:
        patients = {patient_of(header.dataset) for header in files.headers}
        if (several := count_patients(patients)) > 1:
            raise StudyError("patient-mismatch", patients=several)
        chosen = analyst.select(files.headers)
        digests: list[tuple[str, str]] = []
        copier = Copier(analyst.deidentifier, self._limits)
        copies = [
            read_part10(copier.copy(data), self._limits) for data in self._read(files, chosen.instance_keys, digests)
        ]
        digest = input_digest(digests)
        issue = Issue(identity=copier.identity, input_digest=digest)
        analysis = analyst.analyse(copies, progress, issue=issue)
        picture = picture_of(analysis, analyst.words)
        manifest = analyst.package.manifest
        wishes = default_wishes(manifest) if self._destination is None else wishes_of(self._destination, manifest)
        results = analyst.encode(
            analysis, picture, identity=issue.identity, input_digest=digest, variants=forms.choose(wishes)
        )
        return analysis, picture, results

    def _told(self, files: Files, analyst: Analyst, error: NodeError) -> tuple[EncodedResult, ...]:
        """The document that says why there are no results, where the destination wants one."""
        if self._destination is None or not is_told(self._destination, error):
            return ()
        manifest = analyst.package.manifest
        taken = [one for one in files.headers if one.dataset.get("Modality") in manifest.input.modalities]
        if not taken:
            return ()
        try:
            source = read_part10_raw(bytes_of(files.paths[taken[0].instance_key]), self._limits)
            return analyst.encode_outcome(
                error.code,
                taken[0].dataset,
                identity=source_identity([source], {}),
                input_digest=input_digest([(one.instance_key, one.instance_key) for one in files.headers]),
                variants=forms.choose_outcome(wishes_of(self._destination, manifest)),
            )
        except StudyError:  # the study's own reason is the one to tell
            return ()

    def _read(self, files: Files, keys: tuple[str, ...], digests: list[tuple[str, str]]) -> Iterator[bytes]:
        """Whole objects of chosen headers; each is proved to be the one whose header was chosen."""
        headers = {header.instance_key: header.dataset for header in files.headers}
        for key in keys:
            data = bytes_of(files.paths[key])
            dataset = read_part10(data, self._limits)
            _prove_surveyed(dataset, headers[key])
            digests.append((key, self._digests.of(split_part10(data)[1])))
            yield data

    def _write(
        self, study_key: str, model: str, output: Path, picture: KeyImage | None, results: tuple[EncodedResult, ...]
    ) -> Iterator[str]:
        stem = f"{name_of(study_key)}-{model}"
        for result in results:
            yield write_file(output / f"{stem}-{result.role.value}.dcm", *result.part10())
        if picture is not None:
            yield write_file(output / f"{stem}-key-image.png", png(picture.rgb))


def name_of(study_key: str) -> str:
    """A study's short name, in file names and for people: the beginning of its key, which tells nothing of it."""
    return study_key[:8]


def _remarks_on_uids(files: Files) -> Iterator[str]:
    """What a user should know of results that carry UIDs which are none."""
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    uids = {str(header.dataset.get(name) or "") for header in files.headers for name in names}
    if count := sum(not is_valid_uid(uid) for uid in uids):
        yield f"{count} UIDs of the source break PS3.5 9.1; results carry them as they are, and strict readers refuse them"


def _prove_surveyed(dataset: Dataset, header: Dataset) -> None:
    """A result takes its patient and study from what is read here, not from the header by which it was chosen."""
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if str(dataset.get(keyword) or "") != str(header.get(keyword) or ""):
            raise StudyError("result-identity-differs", attribute=keyword)
    if patient_of(dataset) != patient_of(header):
        raise StudyError("result-identity-differs", attribute="PatientID")


def bytes_of(path: Path) -> bytes:
    """Content of a file; `StudyError` ``object-malformed`` where it cannot be read, ``object-too-large`` where memory does not hold it."""
    try:
        return path.read_bytes()
    except OSError:
        raise StudyError("object-malformed") from None
    except MemoryError:
        raise StudyError("object-too-large") from None


def write_file(path: Path, *pieces: Buffer) -> str:
    """Put a file of the output in place, whole and durable or not at all; its name.

    Raises
    ------
    ConfigError
        ``output-failed`` where it cannot be written.
    """
    try:
        replace_file(path, pieces, mode=_OUTPUT_MODE)
    except OSError:
        raise ConfigError("output-failed") from None
    return path.name
