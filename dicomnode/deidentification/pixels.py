"""Pixels: which may show text, what of ultrasound is blanked, and what hides beside the picture.

`plan` decides, `carry_out` acts. What nothing proves clean is withheld: without a reader (extra `ocr`), all that may
show text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.deidentification import burned, unflagged
from dicomnode.deidentification.bits import Bits, bits_of, checked_bits_of
from dicomnode.deidentification.changes import looks_at_all
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.compressed import VIDEO, Picture, may_hide, scrub
from dicomnode.deidentification.frames import frames_of
from dicomnode.deidentification.kinds import PHOTOGRAPHS, Kind, kind_of
from dicomnode.deidentification.reader import Reader
from dicomnode.deidentification.stored import (
    BIG_ENDIAN,
    FLOATS,
    NATIVE,
    PIXEL_DATA,
    number_of,
    syntax_of,
    word_of,
    words_of,
)
from dicomnode.deidentification.ultrasound import own_regions
from dicomnode.deidentification.values import Element
from dicomnode.errors import StudyError
from dicomnode.imaging.stored import LOSSY

#: Values of Image Type (0008,0008) of screens, reports and labels.
_SCREENS: Final = re.compile(r"SCREEN|DOSE.?(REPORT|INFO|PAGE)|REPORT|PATIENT.?PROTOCOL|CAPTURE|SNAPSHOT|DOCUMENT")
_DESCRIBED: Final = re.compile(
    r"screen.?(save|shot|cap)|dose.?(report|info|page)|patient.?protocol|scanned|document|snapshot", re.IGNORECASE
)
#: Flavors of slides (PS3.3 C.8.12.4.1.1): with their label; of tissue alone. Others show a whole slide.
_SLIDE_PARTS: Final = frozenset({"LABEL", "OVERVIEW"})
_TISSUE: Final = "VOLUME"
_LABEL_IN_IMAGE: Final = 0x00480010
#: Conversion Type (0008,0064) of screens, video and paper (PS3.3 C.8.6.1).
_CONVERTED: Final = frozenset({"DV", "DF", "WSD", "SD", "SI", "DRW", "DI"})
#: Those of paper: handwriting and barcodes are no text that is read for certain.
_PAPER: Final = frozenset({"SD", "DRW"})
_BY_CHANCE: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How pixels are looked at.

    Attributes
    ----------
    reader
        Reads text; None: what may show text is withheld.
    blanks_text
        Whether text that is found is blanked; else the object is withheld.
    every_image
        Whether images without any flag are looked at too.
    closely
        Whether each of these is read, or without a reader searched for faint letters.
    recognizable
        Whether an object that is flagged with recognizable visual features may pass.
    """

    reader: Reader | None = None
    blanks_text: bool = True
    every_image: bool = False
    closely: bool = False
    recognizable: bool = True
    decoding: DecodingLimits = field(default_factory=DecodingLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to the pixels.

    Attributes
    ----------
    regions
        Rectangles (x0, y0, x1, y1), inclusive, that stay; all else is blanked. None: all stays.
    read
        Why text is looked for; empty: it is not.
    searched
        Whether every frame of an image that nobody reads was searched for what looks written on, and showed nothing.
    vouched
        Whether it passes because the site vouches for it: something says that it may show text, and nobody reads.
    """

    regions: tuple[tuple[int, int, int, int], ...] | None = None
    read: str = ""
    searched: bool = False
    vouched: bool = False

    @property
    def blanks(self) -> bool:
        """Whether something is blanked."""
        return self.regions is not None or bool(self.read)


class Done(NamedTuple):
    """What became of the pixels.

    Attributes
    ----------
    anew
        Whether they were written anew, as Explicit VR Little Endian.
    clean
        Whether they were read, all text was blanked, and nothing is left that may be some.
    """

    anew: bool = False
    clean: bool = False


def plan(dataset: Dataset, sop_class_uid: str, looking: Looking | None = None, *, vouched: bool = False) -> Plan:
    """Decide on the pixels of an object.

    Parameters
    ----------
    vouched
        Whether the site vouches that nothing is written there (`devices`): without a reader a search for letters is enough.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where they may show text and nobody reads it, or show a face that must not pass.
    """
    looking = looking or Looking()
    if not any(tag in dataset for tag in (PIXEL_DATA, *FLOATS)):
        return Plan()
    kind = kind_of(sop_class_uid)
    if syntax_of(dataset).startswith(VIDEO):
        raise StudyError("withheld-pixels", because="video")
    if not looking.recognizable and word_of(dataset, 0x00280302) == "YES":
        raise StudyError("withheld-pixels", because="recognizable")
    if kind is Kind.SLIDE and _shows_label(dataset):
        raise StudyError("withheld-pixels", because="slide-label")
    if _PAPER & set(words_of(dataset, 0x00080064)) or word_of(dataset, 0x00080060) == "DOC":
        raise StudyError("withheld-pixels", because="paper")
    vouched = vouched and looking.reader is None
    if kind is Kind.ULTRASOUND and not vouched:
        return _ultrasound(dataset, sop_class_uid, looking)
    prone = kind in (Kind.TEXT_PRONE, Kind.ULTRASOUND)
    prone = prone or (kind is Kind.SLIDE and _TISSUE not in words_of(dataset, 0x00080008))
    because = "kind" if prone else _suspicion(dataset, sop_class_uid)
    if because and vouched and PIXEL_DATA in dataset:
        return _vouched(dataset, sop_class_uid, looking)
    if not because and looking.every_image:
        reads = looking.reader is not None
        because = unflagged.suspicion(dataset, sop_class_uid, looking.decoding, reads=reads, closely=looking.closely)
    if because and (looking.reader is None or PIXEL_DATA not in dataset):
        raise StudyError("withheld-pixels", because=because)
    every = looks_at_all(number_of(dataset, 0x00280008, 1))
    return Plan(read=because, searched=looking.every_image and not because and every)


def _vouched(dataset: Dataset, sop_class_uid: str, looking: Looking) -> Plan:
    """Nobody reads an image that the site vouches for: it is searched in every way that needs no reader."""
    written = unflagged.suspicion(dataset, sop_class_uid, looking.decoding, reads=False)
    if written or burned.has_letters(frames_of(dataset, looking.decoding), dataset):
        raise StudyError("withheld-pixels", because="strokes")
    return Plan(vouched=True)


def _shows_label(dataset: Dataset) -> bool:
    """Whether a picture of a slide has its label in it (PS3.3 C.8.12.4)."""
    return bool(_SLIDE_PARTS & set(words_of(dataset, 0x00080008))) or word_of(dataset, _LABEL_IN_IMAGE) == "YES"


def _suspicion(dataset: Dataset, sop_class_uid: str) -> str:
    if word_of(dataset, 0x00280301) == "YES":
        return "burned-in"
    if any(_SCREENS.search(word) for word in words_of(dataset, 0x00080008)):
        return "image-type"
    if word_of(dataset, 0x00080064) in _CONVERTED or word_of(dataset, 0x00080060) == "SC":
        return "conversion"
    several = number_of(dataset, 0x00280002, 1) > 1 and sop_class_uid not in PHOTOGRAPHS
    if kind_of(sop_class_uid) is Kind.ORDINARY and (several or word_of(dataset, 0x00280004) == "PALETTE COLOR"):
        return "colour"  # of a palette nobody knows which index is bright
    if any(_DESCRIBED.search(word) for tag in (0x0008103E, 0x00204000) for word in words_of(dataset, tag)):
        return "description"
    return ""


def _ultrasound(dataset: Dataset, sop_class_uid: str, looking: Looking) -> Plan:
    """Regions alone stay, and what stands within them is read: they are no proof that nothing is written there."""
    because = _suspicion(dataset, sop_class_uid) or "ultrasound"
    if looking.reader is None:
        raise StudyError("withheld-pixels", because=because)
    return Plan(regions=own_regions(dataset), read=because)


def carry_out(
    what: Plan, source: Dataset, target: Dataset, seeds: frozenset[str] = frozenset(), looking: Looking | None = None
) -> Done:
    """Put the pixels of the source into the target: blanked, masked to their bits, cut to their length, scrubbed.

    Parameters
    ----------
    seeds
        The header's own values, to be recognised in text that is read.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a plan to blank cannot be carried out, text stays readable, or the header does not say
        which bytes are the picture.
    """
    looking = looking or Looking()
    if floats := [tag for tag in FLOATS if tag in target]:
        _floats(source, target, floats)
    if PIXEL_DATA not in target:
        return Done()
    element = cast("Element", source.get_item(PIXEL_DATA))
    value = element.value
    if not isinstance(value, bytes):
        raise StudyError("withheld-pixels", because="no-bytes")
    syntax = syntax_of(source)
    if syntax in NATIVE and value:
        checked_bits_of(source)
    if what.blanks:
        return _looked_at(what, source, target, seeds, looking)
    new = _native(source, value, syntax) if syntax in NATIVE else scrub(value, syntax, _picture(source))
    if syntax not in NATIVE:
        if _says(new, seeds):
            raise StudyError("withheld-pixels", because="stream")
        if may_hide(new, syntax, _picture(source), checked_bits_of(source)) and _is_unhidden(source, target, looking):
            return Done(anew=True)
    if new is value:
        return Done()
    vr = element.VR or ("OB" if number_of(source, 0x00280100) <= 8 and syntax != "1.2.840.10008.1.2" else "OW")
    pixel_data = DataElement(PIXEL_DATA, vr, new)
    pixel_data.is_undefined_length = syntax not in NATIVE
    target[PIXEL_DATA] = pixel_data
    return Done()


def _says(stream: bytes, seeds: frozenset[str]) -> bool:
    """Whether a compressed stream holds one of the header's values as it is written: by chance it has none of six letters."""
    lower = stream.lower()
    return any(len(seed) >= _BY_CHANCE and seed.isascii() and seed.encode() in lower for seed in seeds)


def _is_unhidden(source: Dataset, target: Dataset, looking: Looking) -> bool:
    """Write compressed pixels natively without what stood in their unused bits; whether there was anything.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where nobody can tell: they cannot be decoded, or lossy ones overshoot their bits.
    """
    frames = frames_of(source, looking.decoding)
    if frames.hid and syntax_of(source) in LOSSY:
        raise StudyError("withheld-pixels", because="bits")
    if frames.hid:
        frames.write(target)
    return frames.hid


def _looked_at(what: Plan, source: Dataset, target: Dataset, seeds: frozenset[str], looking: Looking) -> Done:
    """Decode, blank what lies outside of the regions, read and blank text; native pixels where anything changed."""
    frames = frames_of(source, looking.decoding)
    if what.regions is not None:
        burned.keep_regions(frames, what.regions)
    blanked = burned.Blanked(0, doubtful=True)
    if what.read and looking.reader is not None:
        doubtful = what.read in ("ultrasound", "projection", "strokes", "closely")
        ordinary = what.read == "strokes" and unflagged.is_ordinary(source, str(source.get("SOPClassUID")))
        blanked = burned.blank_text(
            frames, source, looking.reader, seeds,
            sure_alone=doubtful, anatomy=what.read == "closely", ordinary=ordinary and len(frames.values) == 1,
        )  # fmt: skip
    if blanked.boxes and not looking.blanks_text:
        raise StudyError("withheld-pixels", because="text")
    if what.read == "strokes" and unflagged.stays_written(frames.values[..., 0], source):
        raise StudyError("withheld-pixels", because="strokes")
    clean = not blanked.doubtful and looks_at_all(len(frames.values))
    if not blanked.boxes and what.regions is None:
        return carry_out(Plan(), source, target, seeds, looking)._replace(clean=clean)
    frames.write(target)
    return Done(anew=True, clean=clean)


def _floats(source: Dataset, target: Dataset, tags: list[int]) -> None:
    """Float pixels are all of the picture, and of its length (PS3.3 C.7.6.24, C.7.6.25)."""
    value = cast("Element", source.get_item(tags[0])).value
    if len(tags) > 1 or PIXEL_DATA in target:
        raise StudyError("withheld-pixels", because="several")
    length = _length(source, 8 * FLOATS[tags[0]])
    if not isinstance(value, bytes) or len(value) < length or not length:
        raise StudyError("withheld-pixels", because="length")
    if len(value) > length:
        target[tags[0]] = DataElement(tags[0], "OF" if tags[0] == min(FLOATS) else "OD", value[:length])


def _length(dataset: Dataset, allocated: int) -> int:
    """Bytes that all frames take; 0 where the header does not say."""
    rows, columns = number_of(dataset, 0x00280010), number_of(dataset, 0x00280011)
    samples, frames = number_of(dataset, 0x00280002, 1), max(number_of(dataset, 0x00280008, 1), 1)
    if word_of(dataset, 0x00280004) == "YBR_FULL_422":
        samples = 2
    return (rows * columns * samples * frames * allocated + 7) // 8


def _picture(dataset: Dataset) -> Picture:
    allocated, rows, columns = (number_of(dataset, tag) for tag in (0x00280100, 0x00280010, 0x00280011))
    return Picture(
        frames=max(number_of(dataset, 0x00280008, 1), 1),
        segments=number_of(dataset, 0x00280002, 1) * allocated // 8,
        segment_bytes=rows * columns,
    )


def _native(dataset: Dataset, value: bytes, syntax: str) -> bytes:
    if not value:
        return value
    allocated = number_of(dataset, 0x00280100, 16)
    length = _length(dataset, allocated)
    if length == 0 or len(value) < length:
        raise StudyError("withheld-pixels", because="length")
    new = _masked(bits_of(dataset), value[:length] if len(value) > length + 1 else value, length, syntax == BIG_ENDIAN)
    if len(new) > length and new[length:] != b"\0":
        new = new[:length]
    return new + b"\0" if len(new) % 2 else new


def _masked(bits: Bits, value: bytes, length: int, big_endian: bool) -> bytes:
    """Stored values without what older overlays left in unused bits."""
    if not bits.has_unused:
        return value
    size = bits.allocated // 8
    words = np.frombuffer(value, f"{'>' if big_endian else '<'}u{size}", count=length // size)
    clean = bits.cleaned(words)
    return value if clean is words else clean.tobytes()
