"""The quick way for files of ordinary slices: bytes in, bytes out; anything unusual goes the full way (apply).

Slices of a series share nearly all of their elements. What the full way made of an element is remembered under
everything that it depends on (the context: identities, dates, sequences, private creators, character set, pixel format,
descriptors), and is made anew by the same rules where the bytes differ. Property tests prove that both ways give the
same file. Most slices differ from another one in nothing but values of the same length: these elements alone are looked
at. Pure but for this memory.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from dicomnode.deidentification import private
from dicomnode.deidentification.alike import Mould, form_of
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.contexts import Context, Made, context_key, treated
from dicomnode.deidentification.inks import has_ink
from dicomnode.deidentification.kinds import lacks_description
from dicomnode.deidentification.leakcheck import words_of_ours
from dicomnode.deidentification.nesting import Node, own_encodings
from dicomnode.deidentification.slices import EXPLICIT_LITTLE, Element, is_original, split
from dicomnode.deidentification.strokes import has_strokes, maxima_of
from dicomnode.deidentification.treat import PIXELS
from dicomnode.encoded import Buffer, Limits, encode_part10, is_cut_part10, read_part10, wrap_part10
from dicomnode.errors import StudyError

_CHARACTER_SET: Final = 0x00080005
_CONTEXTS: Final = 16
_MOULDS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DeidentifiedFile:
    """A de-identified file, ready to be written.

    Attributes
    ----------
    uids
        New UID → old UID.
    quick
        Whether it went the quick way.
    """

    data: bytes = field(repr=False)
    sop_instance_uid: str
    uids: dict[str, str] = field(repr=False)
    quick: bool = False


class FileDeidentifier:
    """De-identifies files under one policy, the quick way where it can.

    Parameters
    ----------
    deidentifier
        The full way.
    limits
        Budgets of reading.
    """

    def __init__(self, deidentifier: Deidentifier, limits: Limits) -> None:
        self._full_way = deidentifier
        self._limits = limits
        self._asked = deidentifier.asked_of_devices
        self._contexts: OrderedDict[tuple[bytes, ...], Context] = OrderedDict()
        self._moulds: OrderedDict[int, Mould] = OrderedDict()  # by the size of the files

    def deidentify(self, data: bytes) -> DeidentifiedFile:
        """De-identify one file.

        Raises
        ------
        StudyError
            As `apply.Deidentifier.deidentify`, and ``object-malformed``.
        """
        if self._full_way.policy.closely:
            return self._full(data)
        mould = self._moulds.get(len(data))
        if mould is not None and (done := self._again(data, mould)):
            return done
        elements = split(data)
        if elements is None or self._full_way.recipients:
            return self._full(data)
        if self._full_way.policy.look_at_every_image and not is_original(elements):
            return self._full(data)  # looked at closely
        key = context_key(elements, self._asked)
        context = self._contexts.get(key)
        if context is None:
            return self._learn(data, elements, key)
        self._contexts.move_to_end(key)
        return self._assemble(data, elements, context) or self._full(data)

    def _full(self, data: bytes) -> DeidentifiedFile:
        dataset = read_part10(data, self._limits, drop_rest=True)
        refuse_cut(data, dataset, self._limits)
        self._full_way.refuse_header(dataset)
        done = self._full_way.deidentify(dataset)
        syntax = str(done.dataset.file_meta.TransferSyntaxUID)
        new = encode_part10(done.dataset, transfer_syntax_uid=syntax)
        return DeidentifiedFile(data=new, sop_instance_uid=str(done.dataset.SOPInstanceUID), uids=done.uids)

    def _learn(self, data: bytes, elements: list[Element], key: tuple[bytes, ...]) -> DeidentifiedFile:
        """The full way once; what it made of each element is remembered, where it did nothing to the pixels."""
        dataset = read_part10(data, self._limits)
        done, means = self._full_way.learn(dataset)
        new = encode_part10(done.dataset, transfer_syntax_uid=str(done.dataset.file_meta.TransferSyntaxUID))
        result = DeidentifiedFile(data=new, sop_instance_uid=str(done.dataset.SOPInstanceUID), uids=done.uids)
        after = split(new)
        if after is None or done.leaks or means.looked or elements[-1].whole != after[-1].whole:
            return result
        outputs = {element.tag: element.whole for element in after}
        if b"ISO_IR 192" in outputs.get(_CHARACTER_SET, b""):  # some text is not ASCII: another object may have none
            return result
        known = means.known
        sources = {element.tag for element in elements}
        made = {}
        for element in elements[:-1]:
            output = outputs.get(element.tag)
            uids = {uid: old for uid, old in done.uids.items() if output is not None and uid.encode() in output}
            made[element.whole] = Made(data=output, uids=uids)
        self._contexts[key] = Context(
            rules=means.rules,
            treater=means.treater,
            node=Node(Dataset(), own_encodings(dataset)),
            needles=known.needles(words_of_ours(done.dataset)),
            creators=private.creators(dataset, own_encodings(dataset)),
            made=made,
            asked=self._asked,
            added=[(tag, whole) for tag, whole in outputs.items() if tag not in sources],
        )
        if len(self._contexts) > _CONTEXTS:
            self._contexts.popitem(last=False)
        return result

    def _assemble(self, data: bytes, elements: list[Element], context: Context) -> DeidentifiedFile | None:
        form = form_of(elements)
        if not self._pixels_stay(form, elements[-1].whole):
            return None
        all_made: list[Made] = []
        new: list[bytes] = []
        for element in elements[:-1]:
            made = context.made.get(element.whole)
            if made is None:
                made = treated(element, context)
                if made is None:
                    return None
                new.append(made.data or b"")
            all_made.append(made)
        if context.leaks(new) or not _creators_fit(elements, all_made):
            return None
        mould = self._moulds[len(data)] = Mould(data, elements, all_made, context, form)
        if len(self._moulds) > _MOULDS:
            self._moulds.popitem(last=False)
        pieces = (*mould.pieces, elements[-1].whole)
        return _wrapped(mould.pieces[mould.sop_instance], mould.pieces[mould.sop_class], pieces, mould.uids_without(()))

    def _again(self, data: bytes, mould: Mould) -> DeidentifiedFile | None:
        """A file that differs from an earlier one in some values alone."""
        changed = mould.changed(data)
        pixels = memoryview(data)[mould.pixels :]
        if changed is None or not self._pixels_stay(mould.form, pixels):
            return None
        pieces, new = list(mould.pieces), []
        uids = mould.uids_without(changed)
        for index, element in changed:
            made = mould.context.made.get(element.whole)
            if made is None:
                made = treated(element, mould.context)
                if made is None:
                    return None
                new.append(made.data or b"")
            if (element.tag >> 16) % 2 and (made.data is None) != (not pieces[mould.places[index]]):
                return None  # the creator of its block may come or go
            pieces[mould.places[index]] = made.data or b""
            uids.update(made.uids)
        if mould.context.leaks(new):
            return None
        return _wrapped(pieces[mould.sop_instance], pieces[mould.sop_class], (*pieces, pixels), uids)

    def _pixels_stay(self, form: tuple[int, int, int], pixels: Buffer) -> bool:
        """Whether the full way would leave the pixels as they are; their format is that of the context."""
        stored, signed, rows = form
        words = np.frombuffer(pixels, "<u2", offset=12)
        values = words.view("<i2") if signed else words
        image = values.reshape(rows, -1)
        maxima = maxima_of(image)
        highest = int(maxima.max())
        if stored < 16 and (signed or highest >> stored):
            return False
        return not (
            self._full_way.policy.look_at_every_image and (has_strokes(image, maxima) or has_ink(image, highest))
        )


def refuse_cut(data: Buffer, dataset: Dataset, limits: Limits) -> None:
    """Refuse a file that ends before it says which pixels it has, or within an element.

    Raises
    ------
    StudyError
        ``object-malformed``.
    """
    pixels = any(tag in dataset for tag in PIXELS)
    if not pixels and (lacks_description(dataset) or is_cut_part10(data, limits)):
        raise StudyError("object-malformed", because="cut")


def _creators_fit(elements: list[Element], made: list[Made]) -> bool:
    """Whether the creator of each private block stays if something of the block does."""
    stays = {
        element.tag: one.data is not None
        for element, one in zip(elements, made, strict=False)
        if (element.tag >> 16) % 2
    }
    blocks = {private.creator_tag(BaseTag(tag)) for tag, kept in stays.items() if kept and tag & 0xFFFF > 0xFF}
    return all(kept == (tag in blocks) for tag, kept in stays.items() if 0x10 <= tag & 0xFFFF <= 0xFF)


def _wrapped(
    sop_instance: bytes, sop_class: bytes, pieces: tuple[Buffer, ...], uids: dict[str, str]
) -> DeidentifiedFile:
    instance = sop_instance[8:].rstrip(b"\0").decode("ascii")
    before, after = _head(sop_class, len(instance))
    data = b"".join((before, sop_instance[8:], after, *pieces))
    return DeidentifiedFile(data=data, sop_instance_uid=instance, uids=uids, quick=True)


@lru_cache(_MOULDS)
def _head(sop_class: bytes, size: int) -> tuple[bytes, bytes]:
    """What stands before and behind a SOP Instance UID of a size in the head of a file."""
    placeholder = "0" * size
    whole = wrap_part10(
        b"",
        sop_class_uid=sop_class[8:].rstrip(b"\0").decode("ascii"),
        sop_instance_uid=placeholder,
        transfer_syntax_uid=EXPLICIT_LITTLE,
    )
    place = whole.index(b"\x02\x00\x03\x00UI") + 8
    return whole[:place], whole[place + size + size % 2 :]
