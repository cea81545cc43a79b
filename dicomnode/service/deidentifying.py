"""De-identification of files without a node: out, explained, and back again by a recipient's key."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier, Seen, refuse_heads
from dicomnode.deidentification.encrypted import restore
from dicomnode.deidentification.explain import Explanation, explain
from dicomnode.deidentification.faces import Defacing, SeriesOfHead
from dicomnode.deidentification.heads import Head
from dicomnode.deidentification.policy import Faces
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_file, read_part10, split_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.imaging.decode import Decoder
from dicomnode.service import rooms
from dicomnode.service.offline import bytes_of, write_file
from dicomnode.service.rooms import Layout
from dicomnode.service.series_of_files import SeriesOfFiles, Survey
from dicomnode.storage.recipients import certificates, private_key
from dicomnode.workflow.selection import without_pixels
from dicomnode.workflow.stages import limits_of

#: Reasons of pixels alone.
_EXPLAINED: Final = ("withheld-pixels", "withheld-face", "withheld-face-unsaid")
#: Recognizable Visual Features (0028,0302) YES, as it is encoded with explicit and with implicit VR.
_RECOGNIZABLE: Final = (b"\x28\x00\x02\x03CS\x04\x00YES ", b"\x28\x00\x02\x03\x04\x00\x00\x00YES ")
_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


class FileDeidentification:
    """De-identifies files one by one; remembers what each output came from, so that none stands for two contents.

    Where policy lets no face out, `all` is the way: it knows the series that files belong to, and a single file does not.

    Attributes
    ----------
    flagged, defaced
        How many outputs say of themselves that they show a face, and how many lost one.
    """

    def __init__(self, deidentifier: Deidentifier, limits: Limits, decoder: Decoder) -> None:
        self._engine = deidentifier
        self._files = FileDeidentifier(deidentifier, limits)
        self._limits = limits
        self._decoder = decoder
        self._written: dict[Path, tuple[bytes, bytes]] = {}
        self.flagged = self.defaced = 0

    def __call__(self, path: Path, output: Path) -> Path:
        """De-identify one file into a folder; returns where it is written.

        Raises
        ------
        StudyError
            As `FileDeidentifier.deidentify`.
        """
        original = bytes_of(path)
        done = self._files.deidentify(original)
        return self._write(original, done.data, done.sop_instance_uid, output)

    def all(self, paths: Iterable[Path], output: Path) -> Iterator[tuple[Path, Path | StudyError]]:
        """Each file with where it is written, or why it is withheld: series by series where faces are to stay in."""
        if not self._engine.faces.lets_no_face_out:
            for path in paths:
                yield path, _or_error(partial(self, path, output))
            return
        for series in Survey(self._limits).series(paths):
            if series.head is Head.ELSEWHERE or self._engine.faces is Faces.WITHHOLD:
                for path in series.paths:
                    yield path, _or_error(partial(self._unless_head, path, series.head, output))
            else:
                yield from self._without_face(series, output)

    def _unless_head(self, path: Path, head: Head, output: Path) -> Path:
        refuse_heads(head)
        return self(path, output)

    def _without_face(self, series: SeriesOfFiles, output: Path) -> Iterator[tuple[Path, Path | StudyError]]:
        """Two passes over the files of a series: to find the face, and to take it off."""
        found = SeriesOfHead(series.head, self._decoder)
        good = []
        for path in series.paths:
            try:
                found.add(read_part10(bytes_of(path), self._limits))
                good.append(path)
            except StudyError as error:
                yield path, error
        try:
            defacing = found.find()
        except StudyError as error:
            yield from ((path, error) for path in good)
            return
        for path in good:
            yield path, _or_error(partial(self._seen, path, defacing, output))

    def _seen(self, path: Path, defacing: Defacing | None, output: Path) -> Path:
        original = bytes_of(path)
        dataset = read_part10(original, self._limits)
        if defacing is not None:
            defacing.take_off(dataset)
        seen = Seen.NO_HEAD if defacing is None else Seen.TAKEN_OFF
        done = self._engine.deidentify(dataset, seen).dataset
        data = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
        self.defaced += seen is Seen.TAKEN_OFF
        return self._write(original, data, str(done.SOPInstanceUID), output)

    def _write(self, original: bytes, data: bytes, sop_instance_uid: str, output: Path) -> Path:
        # Two originals may differ in nothing but what was taken out of them: they are two contents all the same.
        content = hashlib.sha256(split_part10(original)[1]).digest(), hashlib.sha256(data).digest()
        for number in itertools.count(1):
            target = output / (f"{sop_instance_uid}.dcm" if number == 1 else f"{sop_instance_uid}-{number}.dcm")
            if self._written.setdefault(target, content) == content:
                break
        write_file(target, data)
        self.flagged += any(flag in data for flag in _RECOGNIZABLE)
        return target


def _or_error(work: Callable[[], Path]) -> Path | StudyError:
    try:
        return work()
    except StudyError as error:
        return error


@contextlib.contextmanager
def deidentify_file(tree: Config, environment: Mapping[str, str], policy: str) -> Iterator[FileDeidentification]:
    """What de-identifies files into a folder.

    The same content again has the same output; another content under the same UID has a file of its own beside it.

    Raises
    ------
    ConfigError
        ``config-invalid`` when there is no such policy.
    """
    rooms.policy_of(tree, policy)
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    ring = rooms.open_key_ring(tree, layout, environment, create=True)
    reading = tree.reading
    with Decoder(timeout_seconds=reading.decode_timeout_seconds, memory_bytes=reading.decode_memory_bytes) as decoder:
        yield FileDeidentification(rooms.open_deidentifier(tree, ring, policy), limits_of(tree), decoder)


def explain_file(tree: Config, policy: str, path: Path) -> tuple[list[Explanation], str | None]:
    """What is decided for every attribute of a file, and the code of why the file would be withheld, if it would.

    Where it is withheld for its pixels or for a face, its attributes are explained all the same: of a series that is
    defaced as a whole, one file is withheld. Nothing is made or changed.
    """
    chosen = rooms.policy_of(tree, policy)
    engine = rooms.open_deidentifier(tree, rooms.passing_key_ring(), policy)  # no pseudonym is told
    dataset = read_file(path, limits_of(tree))
    withheld = None
    try:
        output = engine.deidentify(dataset).dataset
    except StudyError as error:
        if error.code not in _EXPLAINED:
            raise
        withheld = error.code
        output = engine.deidentify(without_pixels(dataset), Seen.NO_HEAD).dataset
    return list(explain(dataset, output, chosen, str(dataset.SOPClassUID))), withheld


def reidentify_file(tree: Config, key: Path | None, certificate: Path | None) -> Callable[[Path, Path], Path]:
    """Function that gives one file its original attributes back and returns where it wrote.

    The file is named by the original's SOP Instance UID or, where that is none, as the one that was read.

    Raises
    ------
    ConfigError
        ``state-not-found`` where no key is named and there is no state folder.
    KeyStoreError
        ``key-missing``, ``key-permissions`` or ``key-wrong``.
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
