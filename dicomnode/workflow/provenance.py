"""Who made a series: what this node, another one or another AI made is never worked on, or results would breed results.

Pure. Looks at equipment, contributing equipment and derivation (PS3.3 C.7.5.1, C.12.1.1.5, C.8.9.1.1.5, C.12.4.1.1); results that are no images of
a modality (Segmentation, Structured Report, captures) are no input of any model by their SOP Class alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset, Sequence
from pydicom.tag import Tag

from dicomnode.config import Config
from dicomnode.encoded import series_of
from dicomnode.patterns import found
from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.study import mint_uid

#: Processing Equipment of CID 7005; Artificial Intelligence of CID 7162.
_PROCESSING: Final = ("109102", "DCM")
_ARTIFICIAL_INTELLIGENCE: Final = ("123110", "DCM")
_WORDS: Final = re.compile(
    r"\bAI\b|artificial intelligence|deep.?learning|machine.?learning|neural (network|net)\b|\bk(ue|ü)nstliche intelligenz",
    re.IGNORECASE,
)
_CHARACTERS: Final = 1024
#: Codes of what a guard refuses.
REFUSALS: Final = frozenset({"own-output", "ai-output", "too-many-hops"})
_ITEMS: Final = 64
#: All that is looked at.
_DECIDING: Final = tuple(
    Tag(keyword)
    for keyword in (
        "ImageType",
        "Manufacturer",
        "StationName",
        "ManufacturerModelName",
        "DerivationDescription",
        "DerivationCodeSequence",
        "DeviceUID",
        "SoftwareVersions",
        "ContributingEquipmentSequence",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What counts as made by whom.

    Attributes
    ----------
    device_uid
        Of this node.
    refuses_ai
        Whether images that another AI made are refused; the node's own always are.
    ai_equipment
        Regular expressions that are searched in the names of equipment.
    maximum_hops
        Times that an image may have been processed.
    """

    device_uid: str
    refuses_ai: bool = True
    ai_equipment: tuple[str, ...] = ()
    maximum_hops: int = 8

    def refusals(self, headers: Iterable[Dataset]) -> list[str | None]:
        """The same of each of some images; what an image says as its series does is looked at once."""
        found: list[str | None] = []
        known: tuple[object, str | None] | None = None
        for header in headers:
            series = series_of(header, _DECIDING)
            if known is not None and known[0] is series:
                found.append(known[1])
                continue
            found.append(self.refusal(header))
            known = None if series is None else (series, found[-1])
        return found

    def refusal(self, header: Dataset) -> str | None:
        """Code of why an image is not worked on, or None."""
        steps = [item for item in _items(header, "ContributingEquipmentSequence") if _is_processing(item)]
        if any(self._is_own(one) for one in (header, *steps)):
            return "own-output"
        if len(steps) >= self.maximum_hops:
            return "too-many-hops"
        if self.refuses_ai and (self._is_known_ai((header, *steps)) or _says_so(header)):
            return "ai-output"
        return None

    def _is_own(self, equipment: Dataset) -> bool:
        if self.device_uid and str(equipment.get("DeviceUID") or "") == self.device_uid:
            return True
        return (_text(equipment, "Manufacturer"), _text(equipment, "ManufacturerModelName")) == (
            MANUFACTURER.casefold(),
            MODEL_NAME,
        )

    def _is_known_ai(self, equipment: tuple[Dataset, ...]) -> bool:
        names = [
            _text(one, keyword)
            for one in equipment
            for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "StationName")
        ]
        return any(found(pattern, name) for pattern in self.ai_equipment for name in names if name)


def guard_of(tree: Config, derivation_key: bytes) -> Guard:
    """Guard of a configuration, on the node with this key."""
    settings = tree.loop_guard
    return Guard(
        device_uid=mint_uid(derivation_key, "device") if derivation_key else "",  # where only the network runs
        refuses_ai=settings.ai_output == "refuse",
        ai_equipment=settings.ai_equipment,
        maximum_hops=settings.maximum_hops,
    )


def _says_so(header: Dataset) -> bool:
    """Whether a derived image says that an AI derived it; one that a scanner made says it of its reconstruction."""
    values = {value.strip().upper() for value in _values(header, "ImageType")}
    if "DERIVED" not in values:
        return False
    if "AI" in values or _WORDS.search(str(header.get("DerivationDescription") or "")[:_CHARACTERS]):
        return True
    codes = _items(header, "DerivationCodeSequence")
    return any(_code(one) == _ARTIFICIAL_INTELLIGENCE or _WORDS.search(_text(one, "CodeMeaning")) for one in codes)


def _is_processing(item: Dataset) -> bool:
    return any(_code(one) == _PROCESSING for one in _items(item, "PurposeOfReferenceCodeSequence"))


def _code(item: Dataset) -> tuple[str, str]:
    return str(item.get("CodeValue") or "").strip(), str(item.get("CodingSchemeDesignator") or "").strip()


def _items(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """First items of a sequence; none where it is absent or no sequence."""
    value = dataset.get(keyword)
    items = value if isinstance(value, Sequence) else ()
    yield from items[:_ITEMS]


def _values(dataset: Dataset, keyword: str) -> list[str]:
    value = dataset.get(keyword)
    if value is None:
        return []
    return [str(value)] if isinstance(value, str) or not hasattr(value, "__iter__") else [str(one) for one in value]


def _text(dataset: Dataset, keyword: str) -> str:
    return "\\".join(_values(dataset, keyword)).strip().casefold()[:_CHARACTERS]
