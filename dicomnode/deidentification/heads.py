"""Whether a volume shows a head, whose face can be drawn from it. Pure, by what the header says."""

from __future__ import annotations

import re
from typing import Final

from pydicom.dataset import Dataset

from dicomnode.deidentification import codes
from dicomnode.deidentification.nesting import items_of, own_encodings
from dicomnode.deidentification.values import ASCII, texts

_MODALITIES: Final = frozenset({"CT", "MR", "PT"})
_WORDS: Final = re.compile(
    r"head|brain|skull|neuro|face|facial|sinus|orbit|jaw|dental|mandible|maxill|cranium|cerebr|kopf|sch\u00e4del|tete|t\u00eate|cabeza|testa|encephal|"
    r"pituitary|temporal|carotid|hnc|h&n|whole.?body|wb",
    re.IGNORECASE,
)
TEXTS: Final = (0x00180015, 0x00081030, 0x0008103E, 0x00181030, 0x00400254, 0x00321060)
_REGION: Final = 0x00082218
#: SNOMED CT: head, brain, skull, face, paranasal sinus, orbit, jaw, head and neck, entire body.
_CODES: Final = frozenset(
    {"69536005", "12738006", "89546000", "89545001", "2095001", "363654007", "661005", "774007", "38266002"}
)


def shows_a_head(dataset: Dataset) -> bool:
    """Whether an object is an image of CT, MR or PET of the head, or of a region that holds it."""
    encodings = own_encodings(dataset)

    def words(tag: int) -> list[str]:
        return texts(dataset.get_item(tag), "LO", encodings) if tag in dataset else []

    modality = texts(dataset.get_item(0x00080060), "CS", ASCII) if 0x00080060 in dataset else []
    if not _MODALITIES & set(modality) or "PixelData" not in dataset:
        return False
    if any(_WORDS.search(word) for tag in TEXTS for word in words(tag)):
        return True
    regions = items_of(dataset, _REGION) if _REGION in dataset else None
    return any(codes.read(item, encodings).value in _CODES for item in regions or [])
