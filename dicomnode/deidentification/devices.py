"""What a site knows of devices (`DeviceRule`): which rules take an image, and what of its pixels goes before anybody looks.

Pure, but for frames, which a child process decodes. The other checks of pixels go on with what is left: no rule lets
paper, labels of slides, videos or faces pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

from dicomnode.deidentification.burned import blank_boxes, keep_regions
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.frames import EXPLICIT_LITTLE, frames_of
from dicomnode.deidentification.kinds import Kind, kind_of
from dicomnode.deidentification.nesting import own_encodings
from dicomnode.deidentification.reader import Box
from dicomnode.deidentification.stored import FLOATS, PIXEL_DATA, number_of, syntax_of, word_of
from dicomnode.deidentification.ultrasound import own_regions
from dicomnode.deidentification.values import BINARY_VRS, composed, written
from dicomnode.errors import StudyError
from dicomnode.routing_rules import meets
from dicomnode.site_rules import DeviceRule

_IMPLICIT_LITTLE: Final = "1.2.840.10008.1.2"
_BURNED_IN: Final = 0x00280301


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of an image by its device.

    Attributes
    ----------
    boxes
        Columns and rows (x0, y0, x1, y1), inclusive, that are blanked on every frame.
    vouched
        Whether the site vouches for what is left: every rule that takes the image does, and without rectangles it does not
        say itself that something is burned in.
    """

    boxes: tuple[Box, ...] = ()
    vouched: bool = False


def asked(rules: Sequence[DeviceRule]) -> frozenset[int]:
    """Attributes that decide which rules take an image, besides Rows and Columns."""
    tags = (tag_for_keyword(one.attribute) for rule in rules for one in rule.where)
    return frozenset(tag for tag in tags if tag is not None)


def missed(rule: DeviceRule, dataset: Dataset) -> str:
    """First thing that keeps a rule from taking an object: a keyword; empty where it takes it."""
    for wanted, keyword, tag in ((rule.rows, "Rows", 0x00280010), (rule.columns, "Columns", 0x00280011)):
        if wanted is not None and number_of(dataset, tag) != wanted:
            return keyword
    return next(
        (one.attribute for one in rule.where if meets(one, _values(dataset, one.attribute)) is one.unless),
        "" if _has_pixels(dataset) else "PixelData",
    )


def known(rules: Sequence[DeviceRule], dataset: Dataset) -> Known:
    """What the rules that take an object say of its pixels.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where one of them withholds it, or where rectangles are to be blanked in pixels of floats.
    """
    taking = [rule for rule in rules if not missed(rule, dataset)]
    if any(rule.withhold for rule in taking):
        raise StudyError("withheld-pixels", because="device")
    boxes = tuple(box for rule in taking for box in boxes_of(rule, dataset))
    if boxes and PIXEL_DATA not in dataset:
        raise StudyError("withheld-pixels", because="device")
    vouched = bool(taking) and all(rule.rest_is_clean for rule in taking)
    return Known(boxes=boxes, vouched=vouched and (bool(boxes) or word_of(dataset, _BURNED_IN) != "YES"))


def boxes_of(rule: DeviceRule, dataset: Dataset) -> tuple[Box, ...]:
    """Rectangles of a rule in a frame that it takes; of fractions, every pixel that they touch."""
    columns, rows = number_of(dataset, 0x00280011), number_of(dataset, 0x00280010)
    shares = (
        (
            math.floor(x0 * columns),
            math.floor(y0 * rows),
            min(math.ceil(x1 * columns), columns) - 1,
            min(math.ceil(y1 * rows), rows) - 1,
        )
        for x0, y0, x1, y1 in rule.blank_fractions
    )
    return (*rule.blank, *shares)


def without(what: Known, dataset: Dataset, limits: DecodingLimits, *, reads: bool) -> Dataset:
    """The object as it is looked at: what the site's rules say is blanked on every frame, native where anything is.

    Of ultrasound that nobody reads, and that the site vouches for, what lies outside of its regions is blanked, too.

    Raises
    ------
    StudyError
        ``withheld-pixels`` where it cannot be decoded, or its regions cannot be believed.
    """
    alone = what.vouched and not reads and kind_of(str(dataset.SOPClassUID)) is Kind.ULTRASOUND
    regions = own_regions(dataset) if alone and PIXEL_DATA in dataset else None
    if not what.boxes and regions is None:
        return dataset
    frames = frames_of(dataset, limits)
    if regions is not None:
        keep_regions(frames, regions)
    blank_boxes(frames, what.boxes)
    blanked = _copy(dataset)
    frames.write(blanked)
    return blanked


def told(rule: DeviceRule, dataset: Dataset) -> str:
    """What a rule makes of an object, for explanations: no value is told."""
    if where := missed(rule, dataset):
        return f"does not take it ({where})"
    if rule.withhold:
        return "withholds it"
    count = len(boxes_of(rule, dataset))
    rest = "vouches for the rest" if rule.rest_is_clean else "the rest is looked at as ever"
    return f"takes it: blanks {count} rectangle{'' if count == 1 else 's'}, {rest}"


def _has_pixels(dataset: Dataset) -> bool:
    return any(tag in dataset for tag in (PIXEL_DATA, *FLOATS))


def _values(dataset: Dataset, keyword: str) -> list[str]:
    """Values of an attribute of the object itself, without padding, as written and as words (`composed`); none where it is absent or empty."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return []
    vr = dictionary_VR(tag)
    element = dataset[tag] if vr in BINARY_VRS else dataset.get_item(tag)
    values = written(element, vr, own_encodings(dataset))
    return [text for value in values for text in (value.strip(), composed(value).strip()) if text]


def _copy(dataset: Dataset) -> Dataset:
    """The same elements in another Data Set, whose Transfer Syntax is one of native pixels."""
    implicit, little = dataset.original_encoding
    new = Dataset({tag: dataset.get_item(tag) for tag in dataset.keys()})  # noqa: SIM118 (a Data Set iterates over parsed elements)
    new.set_original_encoding(implicit, little, dataset.original_character_set)
    new.file_meta = FileMetaDataset()
    syntax = syntax_of(dataset)
    new.file_meta.TransferSyntaxUID = UID(syntax if syntax == _IMPLICIT_LITTLE else EXPLICIT_LITTLE)
    return new
