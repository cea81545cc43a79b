"""De-identification of files without a node: out, explained, and back again by a recipient's key."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydicom.datadict import keyword_for_tag

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier, Seen
from dicomnode.deidentification.devices import told
from dicomnode.deidentification.encrypted import restore
from dicomnode.deidentification.explain import Explanation, explain
from dicomnode.deidentification.leakcheck import Leak
from dicomnode.deidentification.quick import refuse_cut
from dicomnode.deidentification.treat import PIXELS
from dicomnode.encoded import Limits, encode_part10, read_part10, split_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.imaging.decode import Decoder
from dicomnode.service import rooms
from dicomnode.service.deidentifying_series import Deidentified, SeriesDeidentification
from dicomnode.service.offline import bytes_of, write_file
from dicomnode.service.policies import policy_of
from dicomnode.service.rooms import Layout
from dicomnode.storage import audit
from dicomnode.storage.recipients import certificates, private_key
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.selection import without_pixels

#: Reasons of pixels alone.
_EXPLAINED: Final = ("withheld-pixels", "withheld-face", "withheld-face-unsaid")
#: Recognizable Visual Features (0028,0302) YES, as it is encoded with explicit and with implicit VR.
_RECOGNIZABLE: Final = (b"\x28\x00\x02\x03CS\x04\x00YES ", b"\x28\x00\x02\x03\x04\x00\x00\x00YES ")
_UID: Final = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")
#: Patient ID and Study Instance UID of an output, with explicit and with implicit VR.
_PATIENT: Final = re.compile(rb"\x10\x00\x20\x00(?:LO.\x00|.\x00{3})(DN-[A-Z2-7]+)", re.DOTALL)
_STUDY: Final = re.compile(rb"\x20\x00\x0d\x00(?:UI.\x00|.\x00{3})([0-9.]+)", re.DOTALL)
_HEADER_BYTES: Final = 64 * 1024  # of an ordinary file


class FileDeidentification:
    """De-identifies files one by one; remembers what each output came from, so that none stands for two contents.

    Where policy lets no face out, `all` is the way: it knows the series that files belong to, and a single file does not.

    Attributes
    ----------
    flagged, defaced
        How many outputs say of themselves that they show a face, and how many lost one.
    """

    def __init__(self, deidentifier: Deidentifier, limits: Limits, decoder: Decoder) -> None:
        self._series = SeriesDeidentification(deidentifier, limits, decoder, bytes_of)
        self._written: dict[Path, tuple[bytes, bytes]] = {}
        self._patients: dict[bytes, set[bytes]] = {}  # of each study
        self.flagged = self.defaced = 0

    @property
    def of_two(self) -> int:
        """How many studies came out as several patients', by their ids or by the issuers of these."""
        return sum(len(patients) > 1 for patients in self._patients.values())

    def __call__(self, path: Path, output: Path) -> Path:
        """De-identify one file into a folder; returns where it is written.

        Raises
        ------
        StudyError
            As `SeriesDeidentification.one`.
        """
        return self._write(self._series.one(path), output)

    def all(self, paths: Iterable[Path], output: Path) -> Iterator[tuple[Path, Path | StudyError]]:
        """Each file with where it is written, or why it is withheld: series by series where faces are to stay in."""
        for path, done in self._series.all(paths):
            yield path, done if isinstance(done, StudyError) else self._write(done, output)

    def _write(self, done: Deidentified, output: Path) -> Path:
        # Two originals may differ in nothing but what was taken out of them: they are two contents all the same.
        content = hashlib.sha256(split_part10(done.original)[1]).digest(), hashlib.sha256(done.data).digest()
        for number in itertools.count(1):
            target = output / f"{done.sop_instance_uid}{'' if number == 1 else f'-{number}'}.dcm"
            if self._written.setdefault(target, content) == content:
                break
        write_file(target, done.data)
        self.flagged += any(flag in done.data for flag in _RECOGNIZABLE)
        self.defaced += done.defaced
        header = done.data[:_HEADER_BYTES]
        if (study := _STUDY.search(header)) and (patient := _PATIENT.search(header)):
            self._patients.setdefault(study[1], set()).add(patient[1])
        return target


@contextlib.contextmanager
def deidentify_file(tree: Config, environment: Mapping[str, str], policy: str) -> Iterator[FileDeidentification]:
    """What de-identifies files into a folder.

    The same content again has the same output; another content under the same UID has a file of its own beside it.

    Raises
    ------
    ConfigError
        ``config-invalid`` when there is no such policy.
    """
    policy_of(tree, policy)
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    ring = rooms.open_key_ring(tree, layout, environment, create=True)
    reading = tree.reading
    with Decoder(timeout_seconds=reading.decode_timeout_seconds, memory_bytes=reading.decode_memory_bytes) as decoder:
        yield FileDeidentification(rooms.open_deidentifier(tree, ring, policy), limits_of(tree), decoder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What is decided for a file.

    Attributes
    ----------
    withheld
        Code of why it would be withheld; None where it would not.
    leaks
        What the leak check finds in the full copy: kind and keyword or tag of the attribute.
    """

    lines: list[Explanation]
    withheld: str | None = None
    leaks: list[str] = field(default_factory=list)


def explain_file(tree: Config, policy: str, path: Path) -> Explained:
    """What is decided for every attribute of a file, and why the file would be withheld, if it would.

    Where it is withheld for its pixels, for a face or by the leak check, its attributes are explained all the same: of a
    series that is defaced as a whole, one file is withheld. Nothing is made or changed.
    """
    chosen = policy_of(tree, policy)
    engine = rooms.open_deidentifier(tree, rooms.passing_key_ring(), policy)  # no pseudonym is told
    limits = limits_of(tree)
    data = bytes_of(path)
    dataset = read_part10(data, limits, drop_rest=True)
    refuse_cut(data, dataset, limits)
    withheld, because = None, ""
    try:
        engine.refuse_header(dataset)
        done = engine.examine(dataset)
    except StudyError as error:
        if error.code not in _EXPLAINED:
            raise
        withheld, because = error.code, f"{error.code} {error.facts.get('because', '')}".rstrip()
        bulk = [dataset.get_item(tag) for tag in PIXELS if tag in dataset]
        done = engine.examine(without_pixels(dataset), Seen.NO_HEAD)
        for element in bulk:
            dataset[element.tag] = element
    if done.read:
        because = f"text is read ({done.read})"
    if done.held:
        withheld = withheld or "withheld-leak"
    least = bool(done.leaks) and not done.held
    told = explain(
        dataset, done.dataset, chosen, str(dataset.SOPClassUID), minimal=least, leaks=done.leaks, pixels=because
    )
    return Explained(lines=list(told), withheld=withheld, leaks=[_place(leak) for leak in done.leaks])


def _place(leak: Leak) -> str:
    if not leak.tag:
        return f"{leak.kind} in the encoded bytes"
    name = keyword_for_tag(leak.tag) or "private"
    return f"{leak.kind} in ({leak.tag >> 16:04X},{leak.tag & 0xFFFF:04X}) {name}"


def explain_devices(tree: Config, policy: str, path: Path) -> list[str]:
    """What each of the site's rules for devices makes of a file, a line each; no value of the file is told."""
    dataset = read_part10(bytes_of(path), limits_of(tree), drop_rest=True)
    rules = policy_of(tree, policy).devices
    return [f"deidentification.devices.{rule.name}: {told(rule, dataset)}" for rule in rules]


def reidentify_file(tree: Config, key: Path | None, certificate: Path | None) -> Callable[[Path, Path], Path]:
    """Function that gives one file its original attributes back and returns where it wrote; audited where the key is the node's own.

    The file is named by the original's SOP Instance UID or, where that is none, as the one that was read.

    Raises
    ------
    ConfigError
        ``state-not-found`` where no key is named and there is no state folder.
    KeyStoreError
        ``key-missing``, ``key-permissions`` or ``key-wrong``.
    StorageError
        What `audit.append` raises.
    """
    layout = Layout.of(tree)
    if key is None:
        rooms.require_state(layout)
    folder = layout.keys
    named = key or folder / "reidentify.key"
    private = private_key(named)
    mine = certificates((certificate or named.with_name("reidentify.pem"),))
    if not mine:
        raise KeyStoreError("key-wrong")
    if key is None or (folder.is_dir() and named.resolve().parent == folder.resolve()):
        audit.append(layout.state, "reidentify", rooms.now(), uid=os.getuid())

    def reidentify(path: Path, output: Path) -> Path:
        dataset = read_part10(bytes_of(path), limits_of(tree))
        restored = restore(dataset, mine[0], private, limits_of(tree))
        data = encode_part10(restored, transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID))
        uid = str(restored.SOPInstanceUID)  # of an envelope, which anybody may have made: it names a file only as a UID
        target = output / f"{uid if _UID.fullmatch(uid) else path.stem}.dcm"
        if target.exists():
            raise StudyError("same-uid-other-content")
        write_file(target, data)
        return target

    return reidentify
