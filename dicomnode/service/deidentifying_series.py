"""De-identification of many objects, series by series where policy lets no face out; files and sealed objects go the same way.

Nothing is written here, and no object is kept longer than it is worked on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Generic

from dicomnode.deidentification.apply import Deidentifier, Seen, refuse_heads
from dicomnode.deidentification.faces import Defacing, SeriesOfHead
from dicomnode.deidentification.heads import Head
from dicomnode.deidentification.policy import Faces
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from dicomnode.imaging.decode import Decoder
from dicomnode.service.series_of_files import Name, SeriesOfFiles, Survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Deidentified:
    """One object before and after, as Part 10 files, and whether it lost a face."""

    original: bytes = field(repr=False)
    data: bytes = field(repr=False)
    sop_instance_uid: str
    defaced: bool = False


class SeriesDeidentification(Generic[Name]):
    """De-identifies objects by their names.

    Parameters
    ----------
    deidentifier
        Engine of a policy.
    limits
        Budgets of reading.
    decoder
        Reads stored values of compressed images.
    read
        Part 10 file of a name; raises StudyError where it cannot be read.
    """

    def __init__(
        self, deidentifier: Deidentifier, limits: Limits, decoder: Decoder, read: Callable[[Name], bytes]
    ) -> None:
        self._engine = deidentifier
        self._files = FileDeidentifier(deidentifier, limits)
        self._limits = limits
        self._decoder = decoder
        self._read = read

    def one(self, name: Name) -> Deidentified:
        """De-identify one object by itself.

        Raises
        ------
        StudyError
            As `FileDeidentifier.deidentify`.
        """
        original = self._read(name)
        done = self._files.deidentify(original)
        return Deidentified(original=original, data=done.data, sop_instance_uid=done.sop_instance_uid)

    def all(self, names: Iterable[Name]) -> Iterator[tuple[Name, Deidentified | StudyError]]:
        """Each object, or why it is withheld: series by series where faces are to stay in."""
        if not self._engine.faces.lets_no_face_out:
            for name in names:
                yield name, _or_error(partial(self.one, name))
            return
        for series in Survey(self._limits, self._read).series(names):
            if series.head is Head.ELSEWHERE or self._engine.faces is Faces.WITHHOLD:
                for name in series.names:
                    yield name, _or_error(partial(self._unless_head, name, series.head))
            else:
                yield from self._without_face(series)

    def _unless_head(self, name: Name, head: Head) -> Deidentified:
        refuse_heads(head)
        return self.one(name)

    def _without_face(self, series: SeriesOfFiles[Name]) -> Iterator[tuple[Name, Deidentified | StudyError]]:
        """Two passes over the objects of a series: to find the face, and to take it off."""
        found = SeriesOfHead(series.head, self._decoder)
        good = []
        for name in series.names:
            try:
                found.add(read_part10(self._read(name), self._limits, drop_rest=True))
                good.append(name)
            except StudyError as error:
                yield name, error
        try:
            defacing = found.find()
        except StudyError as error:
            yield from ((name, error) for name in good)
            return
        for name in good:
            yield name, _or_error(partial(self._seen, name, defacing))

    def _seen(self, name: Name, defacing: Defacing | None) -> Deidentified:
        original = self._read(name)
        dataset = read_part10(original, self._limits, drop_rest=True)
        if defacing is not None:
            defacing.take_off(dataset)
        seen = Seen.NO_HEAD if defacing is None else Seen.TAKEN_OFF
        done = self._engine.deidentify(dataset, seen).dataset
        data = encode_part10(done, transfer_syntax_uid=str(done.file_meta.TransferSyntaxUID))
        return Deidentified(
            original=original, data=data, sop_instance_uid=str(done.SOPInstanceUID), defaced=seen is Seen.TAKEN_OFF
        )


def _or_error(work: Callable[[], Deidentified]) -> Deidentified | StudyError:
    try:
        return work()
    except StudyError as error:
        return error
    except MemoryError:  # of this object alone
        return StudyError("object-too-large")
