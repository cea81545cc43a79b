"""Pixels: which may show text, what of ultrasound is blanked, and what hides beside the picture.

`plan` decides, `carry_out` acts. What nothing proves clean is withheld; no text is read here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicomnode.deidentification.compressed import scrub
from dicomnode.deidentification.kinds import Kind, kind_of
from dicomnode.deidentification.nesting import items_of
from dicomnode.deidentification.values import ASCII, Element, texts
from dicomnode.errors import StudyError

PIXEL_DATA: Final = 0x7FE00010
_FLOATS: Final = (0x7FE00008, 0x7FE00009)
_REGIONS: Final = 0x00186011
_NATIVE: Final = frozenset(
    {
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.1.98",
    }
)
_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
#: Values of Image Type (0008,0008) of screens, reports and labels.
_SCREENS: Final = re.compile(r"SCREEN|DOSE.?(REPORT|INFO|PAGE)|REPORT|PATIENT.?PROTOCOL|CAPTURE|SNAPSHOT|DOCUMENT")
_DESCRIBED: Final = re.compile(
    r"screen.?(save|shot|cap)|dose.?(report|info|page)|patient.?protocol|scanned|document|snapshot", re.IGNORECASE
)
_SLIDE_PARTS: Final = frozenset({"LABEL", "OVERVIEW"})
#: Conversion Type (0008,0064) of screens, video and paper (PS3.3 C.8.6.1).
_CONVERTED: Final = frozenset({"DV", "DF", "WSD", "SD", "SI", "DRW", "DI"})
#: Classes whose pixels are measurements; colour in them is a rendering, with its legend.
_MEASURED: Final = frozenset(f"1.2.840.10008.5.1.4.1.1.{last}" for last in ("2", "4", "128", "20"))
_WHOLE_FRAME: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done to the pixels.

    Attributes
    ----------
    regions
        Rectangles (x0, y0, x1, y1), inclusive, that stay; all else is blanked. None: all stays.
    """

    regions: tuple[tuple[int, int, int, int], ...] | None = None

    @property
    def blanks(self) -> bool:
        """Whether something is blanked."""
        return self.regions is not None


def plan(dataset: Dataset, sop_class_uid: str, *, recognizable: bool = True) -> Plan:
    """Decide on the pixels of an object.

    Parameters
    ----------
    recognizable
        Whether an object that is flagged with recognizable visual features may pass.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where they may show text.
    """
    if not any(tag in dataset for tag in (PIXEL_DATA, *_FLOATS)):
        return Plan()
    kind = kind_of(sop_class_uid)
    burned = _word(dataset, 0x00280301) == "YES"
    if kind is Kind.TEXT_PRONE:
        raise StudyError("withheld-pixels", because="kind")
    if not recognizable and _word(dataset, 0x00280302) == "YES":
        raise StudyError("withheld-pixels", because="recognizable")
    if kind is Kind.ULTRASOUND:
        return _ultrasound(dataset)
    if burned:
        raise StudyError("withheld-pixels", because="burned-in")
    if because := _suspicion(dataset, sop_class_uid, kind):
        raise StudyError("withheld-pixels", because=because)
    return Plan()


def _suspicion(dataset: Dataset, sop_class_uid: str, kind: Kind) -> str:
    image_type = _words(dataset, 0x00080008)
    if any(_SCREENS.search(word) for word in image_type):
        return "image-type"
    if kind is Kind.SLIDE and _SLIDE_PARTS & set(image_type):
        return "slide-label"
    if _word(dataset, 0x00080064) in _CONVERTED or _word(dataset, 0x00080060) in ("DOC", "SC"):
        return "conversion"
    if sop_class_uid in _MEASURED and _number(dataset, 0x00280002, 1) > 1:
        return "colour"
    if any(_DESCRIBED.search(word) for tag in (0x0008103E, 0x00204000) for word in _words(dataset, tag)):
        return "description"
    return ""


def _ultrasound(dataset: Dataset) -> Plan:
    items = items_of(dataset, _REGIONS) if _REGIONS in dataset else None
    if not items:
        raise StudyError("withheld-pixels", because="no-regions")
    if _syntax(dataset) not in _NATIVE:
        raise StudyError("withheld-pixels", because="compressed")
    rows, columns = _number(dataset, 0x00280010), _number(dataset, 0x00280011)
    regions = []
    for item in items:
        box = tuple(_number(item, tag, -1) for tag in (0x00186018, 0x0018601A, 0x0018601C, 0x0018601E))
        if min(box) < 0 or box[0] > box[2] or box[1] > box[3]:
            raise StudyError("withheld-pixels", because="regions")
        regions.append(cast("tuple[int, int, int, int]", box))
    if _inside(regions, rows, columns).mean() > _WHOLE_FRAME:
        raise StudyError("withheld-pixels", because="regions")
    return Plan(regions=tuple(regions))


def _inside(regions: Iterable[tuple[int, int, int, int]], rows: int, columns: int) -> NDArray[np.bool_]:
    mask = np.zeros((max(rows, 1), max(columns, 1)), bool)
    for x0, y0, x1, y1 in regions:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def carry_out(what: Plan, source: Dataset, target: Dataset) -> None:
    """Put the pixels of the source into the target: blanked, masked to their bits, cut to their length, scrubbed.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where a plan to blank cannot be carried out.
    """
    if PIXEL_DATA not in target:
        return
    element = cast("Element", source.get_item(PIXEL_DATA))
    value = element.value
    if not isinstance(value, bytes):
        raise StudyError("withheld-pixels", because="no-bytes")
    syntax = _syntax(source)
    new = _native(what, source, value, syntax) if syntax in _NATIVE else scrub(value, syntax)
    if new is value:
        return
    vr = element.VR or ("OB" if _number(source, 0x00280100) <= 8 and syntax != "1.2.840.10008.1.2" else "OW")
    pixel_data = DataElement(PIXEL_DATA, vr, new)
    pixel_data.is_undefined_length = syntax not in _NATIVE
    target[PIXEL_DATA] = pixel_data


def _native(what: Plan, dataset: Dataset, value: bytes, syntax: str) -> bytes:
    allocated = _number(dataset, 0x00280100, 16)
    rows, columns = _number(dataset, 0x00280010), _number(dataset, 0x00280011)
    samples, frames = _number(dataset, 0x00280002, 1), max(_number(dataset, 0x00280008, 1), 1)
    if _word(dataset, 0x00280004) == "YBR_FULL_422":
        samples = 2
    length = (rows * columns * samples * frames * allocated + 7) // 8
    if length == 0 or len(value) < length:
        if what.blanks:
            raise StudyError("withheld-pixels", because="length")
        return value
    new = _masked(dataset, value[:length] if len(value) > length + 1 else value, length, syntax == _BIG_ENDIAN)
    if what.regions is not None:
        if allocated % 8 or samples == 2 or (allocated == 8 and syntax == _BIG_ENDIAN):
            raise StudyError("withheld-pixels", because="format")
        shape = (frames, rows, columns, samples, allocated // 8)
        new = _blanked(what.regions, new[:length], shape, planar=samples > 1 and _number(dataset, 0x00280006) == 1)
    if len(new) > length and new[length:] != b"\0":
        new = new[:length]
    return new + b"\0" if len(new) % 2 else new


def _blanked(
    regions: tuple[tuple[int, int, int, int], ...], value: bytes, shape: tuple[int, ...], *, planar: bool
) -> bytes:
    frames, rows, columns, samples, size = shape
    outside = ~_inside(regions, rows, columns)
    pixels = np.frombuffer(value, np.uint8).copy()
    if planar:
        pixels.reshape(frames, samples, rows, columns, size)[:, :, outside] = 0
    else:
        pixels.reshape(frames, rows, columns, samples, size)[:, outside] = 0
    return pixels.tobytes()


def _masked(dataset: Dataset, value: bytes, length: int, big_endian: bool) -> bytes:
    """Stored values without what older overlays left in unused bits (PS3.5 8.1.1); signs stay extended."""
    allocated, stored = _number(dataset, 0x00280100, 16), _number(dataset, 0x00280101, 16)
    high = _number(dataset, 0x00280102, stored - 1)
    if allocated not in (8, 16, 32) or not 0 < stored <= high + 1 <= allocated or (stored == allocated):
        return value
    kind = f"{'>' if big_endian else '<'}u{allocated // 8}"
    words: NDArray[Any] = np.frombuffer(value, kind, count=length // (allocated // 8))
    low = high + 1 - stored
    mask = ((1 << stored) - 1) << low
    clean = words & words.dtype.type(mask)
    if _number(dataset, 0x00280103) == 1:
        above = words.dtype.type(((1 << allocated) - 1) ^ ((1 << (high + 1)) - 1))
        clean = np.where(words & words.dtype.type(1 << high), clean | above, clean).astype(kind)
    if np.array_equal(clean, words):
        return value
    return bytes(clean.tobytes())


def _syntax(dataset: Dataset) -> str:
    return str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "1.2.840.10008.1.2"))


def _words(dataset: Dataset, tag: int) -> list[str]:
    if tag not in dataset:
        return []
    return texts(dataset.get_item(tag), "CS", ASCII)


def _word(dataset: Dataset, tag: int) -> str:
    words = _words(dataset, tag)
    return words[0] if words else ""


def _number(dataset: Dataset, tag: int, default: int = 0) -> int:
    """Integer value of an element; the default where there is none."""
    if tag not in dataset:
        return default
    try:
        return int(dataset[tag].value)
    except (TypeError, ValueError):
        return default
