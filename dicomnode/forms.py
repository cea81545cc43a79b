"""Forms of results: what an object can be written as, and what goes instead where a destination does not take it.

Floor 1, pure: tables and one choice. A form is one way of writing a role; a destination wishes one form of each role,
and a declared chain says what follows a form whose SOP Class the destination does not support.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from dicomnode.study import ResultRole


class Form(StrEnum):
    """How a result is written."""

    BINARY = "binary"
    FRACTIONAL = "fractional"
    LABELMAP = "labelmap"
    RTSTRUCT = "rtstruct"
    COMPREHENSIVE_3D = "comprehensive-3d"
    COMPREHENSIVE = "comprehensive"
    BASIC_TEXT = "basic-text"
    PDF = "pdf"
    CAPTURE = "capture"
    KEY_OBJECTS = "key-objects"
    MAP = "map"


#: SOP Class of each form (PS3.4 B.5).
SOP_CLASSES: Final[Mapping[Form, str]] = MappingProxyType(
    {
        Form.BINARY: "1.2.840.10008.5.1.4.1.1.66.4",
        Form.FRACTIONAL: "1.2.840.10008.5.1.4.1.1.66.4",
        Form.LABELMAP: "1.2.840.10008.5.1.4.1.1.66.7",
        Form.RTSTRUCT: "1.2.840.10008.5.1.4.1.1.481.3",
        Form.COMPREHENSIVE_3D: "1.2.840.10008.5.1.4.1.1.88.34",
        Form.COMPREHENSIVE: "1.2.840.10008.5.1.4.1.1.88.33",
        Form.BASIC_TEXT: "1.2.840.10008.5.1.4.1.1.88.11",
        Form.PDF: "1.2.840.10008.5.1.4.1.1.104.1",
        Form.CAPTURE: "1.2.840.10008.5.1.4.1.1.7",
        Form.KEY_OBJECTS: "1.2.840.10008.5.1.4.1.1.88.59",
        Form.MAP: "1.2.840.10008.5.1.4.1.1.30",
    }
)
#: Forms that a report can refer to segment by segment.
_SEGMENTATIONS: Final = frozenset({Form.BINARY, Form.FRACTIONAL, Form.LABELMAP})
#: What follows a form whose SOP Class a destination does not support; a form that is not here has nothing after it.
CHAIN: Final[Mapping[Form, Form]] = MappingProxyType(
    {
        Form.LABELMAP: Form.BINARY,
        Form.BINARY: Form.CAPTURE,
        Form.FRACTIONAL: Form.CAPTURE,
        Form.RTSTRUCT: Form.CAPTURE,
        Form.COMPREHENSIVE_3D: Form.COMPREHENSIVE,
        Form.COMPREHENSIVE: Form.BASIC_TEXT,
        Form.BASIC_TEXT: Form.PDF,
    }
)
#: Roles that say again what others say: where the destination does not take them, they are left out.
DISPENSABLE: Final = frozenset({ResultRole.KEY_OBJECTS, ResultRole.PARAMETRIC_MAP})


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One object that can be made of an analysis.

    Attributes
    ----------
    links
        Form of the segmentation that a report refers to, segment by segment; None: to none.
    """

    role: ResultRole
    form: Form
    links: Form | None = None

    @property
    def name(self) -> str:
        """Token under which the ledger and a result's UIDs know it."""
        return self.form.value if self.links is None else f"{self.form.value}+{self.links.value}"

    @property
    def sop_class_uid(self) -> str:
        """SOP Class."""
        return SOP_CLASSES[self.form]

    @classmethod
    def of(cls, role: ResultRole, name: str) -> Variant:
        """Inverse of `name`."""
        form, _, links = name.partition("+")
        return cls(role=role, form=Form(form), links=Form(links) if links else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Which results a destination is to get, and in which form.

    Attributes
    ----------
    segmentation, report
        Form; None: not wanted.
    fallbacks
        Whether `CHAIN` is followed.
    """

    segmentation: Form | None = Form.BINARY
    report: Form | None = Form.COMPREHENSIVE
    key_image: bool = True
    key_objects: bool = True
    document: bool = False
    parametric_map: bool = False
    fallbacks: bool = True


def choose(wishes: Wishes, refused: AbstractSet[str] = frozenset()) -> tuple[Variant, ...]:
    """The objects for a destination, in the order in which they are best sent: what is referred to comes first.

    Parameters
    ----------
    refused
        SOP Classes that it is known not to support. A role whose whole chain is refused keeps the form that was wished,
        so that its refusal shows; one of `DISPENSABLE` is left out.
    """
    segmentation = _first(wishes.segmentation, wishes, refused)
    report = _first(wishes.report, wishes, refused)
    links = segmentation if segmentation in _SEGMENTATIONS and SOP_CLASSES[segmentation] not in refused else None
    chosen: list[Variant] = []
    if segmentation is not None and segmentation is not Form.CAPTURE:
        chosen.append(Variant(role=ResultRole.SEGMENTATION, form=segmentation))
    if report is not None:
        linked = links if report in (Form.COMPREHENSIVE, Form.COMPREHENSIVE_3D) else None
        chosen.append(Variant(role=ResultRole.REPORT, form=report, links=linked))
    rest = (
        (wishes.key_image or segmentation is Form.CAPTURE, ResultRole.KEY_IMAGE, Form.CAPTURE),
        (wishes.key_objects, ResultRole.KEY_OBJECTS, Form.KEY_OBJECTS),
        (wishes.document and report is not Form.PDF, ResultRole.DOCUMENT, Form.PDF),
        (wishes.parametric_map, ResultRole.PARAMETRIC_MAP, Form.MAP),
    )
    for wanted, role, form in rest:
        left_out = wishes.fallbacks and role in DISPENSABLE and SOP_CLASSES[form] in refused
        if wanted and not left_out:
            chosen.append(Variant(role=role, form=form))
    return tuple(chosen)


def choose_outcome(wishes: Wishes, refused: AbstractSet[str] = frozenset()) -> tuple[Variant, ...]:
    """The document that says why there are no other results."""
    form = _first(Form.BASIC_TEXT, wishes, refused)
    return () if form is None else (Variant(role=ResultRole.OUTCOME, form=form),)


def missed(wishes: Wishes, chosen: tuple[Variant, ...], *, outcome: bool = False) -> tuple[Variant, ...]:
    """What was wished and is not sent, since the destination does not take it; a lost link alone is none."""
    wished = choose_outcome(wishes) if outcome else choose(wishes)
    sent = {(variant.role, variant.form) for variant in chosen}
    return tuple(variant for variant in wished if (variant.role, variant.form) not in sent)


def chain_of(form: Form) -> tuple[Form, ...]:
    """A form and what follows it."""
    chain = [form]
    while chain[-1] in CHAIN:
        chain.append(CHAIN[chain[-1]])
    return tuple(chain)


def _first(wished: Form | None, wishes: Wishes, refused: AbstractSet[str]) -> Form | None:
    """First form of the chain that is not refused; the wished one where all are."""
    if wished is None or not wishes.fallbacks:
        return wished
    return next((form for form in chain_of(wished) if SOP_CLASSES[form] not in refused), wished)


def sop_classes(wishes: Wishes) -> tuple[str, ...]:
    """Every SOP Class that may go to a destination: what it is probed for."""
    forms = [form for wished in (wishes.segmentation, wishes.report) if wished for form in chain_of(wished)]
    forms += [variant.form for variant in choose(wishes)] + list(chain_of(Form.BASIC_TEXT))
    return tuple(dict.fromkeys(SOP_CLASSES[form] for form in forms))
