"""Property: whatever a source writes, wherever: nested, private, of unknown VR, in any character set, nothing of it is left.

Every text, UID and date that is put into the source is one that nobody else writes; the output is searched for all of
them, decoded and in its bytes. Device identity, which the policy for the network keeps, is left out of that policy here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import config
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests import pace
from tests.unit.deidentification import planted

PSEUDONYMS: Final = Pseudonyms(bytes(range(32)), "project")
#: Longest value of each VR that can hold words.
LONGEST: Final = {
    "LO": 64,
    "SH": 16,
    "LT": 200,
    "ST": 200,
    "UT": 200,
    "UC": 100,
    "PN": 60,
    "AE": 16,
    "CS": 16,
    "UR": 100,
}
#: Without these an object is none, or is another one.
STRUCTURE: Final = (0x00080005, 0x00080006, 0x00080016, 0x00080018, 0x00080060, 0x0020000D, 0x0020000E, 0x00280004)
KNOWN: Final = [
    (tag, entry[0])
    for tag, entry in DicomDictionary.items()
    if entry[0] in (*LONGEST, "UI", "DA", "DT", "SQ") and 2 < tag >> 16 < 0x7FE0 and tag not in STRUCTURE
]
SEQUENCES: Final = [tag for tag, vr in KNOWN if vr == "SQ"]
LEAVES: Final = [(tag, vr) for tag, vr in KNOWN if vr != "SQ"]
CREATORS: Final = ("SIEMENS CSA HEADER", "GEMS_IDEN_01", "Philips PET Private Group", "ACME 1.0")
CHARACTER_SETS: Final = {"ISO_IR 6": ("ascii", "ea"), "ISO_IR 100": ("latin-1", "éß"), "ISO_IR 144": ("iso8859-5", "жщ"), "ISO_IR 192": ("utf-8", "太Ł")}  # fmt: skip
POLICIES: Final = [EXPORT, replace(AI, options=AI.options - {Option.DEVICE})]


class Planter:
    """Fills Data Sets with what must not come out, and remembers it."""

    def __init__(self, random: Random, letters: str) -> None:
        self._random = random
        self._letters = letters
        self.planted: list[str] = []

    def fill(self, dataset: Dataset, count: int, depth: int = 0) -> None:
        """Put some elements into a Data Set, and into the sequences among them."""
        for _ in range(count):
            kind = self._random.random()
            if kind < 0.25 and depth < 3:
                tag = self._random.choice(SEQUENCES) if kind < 0.17 else self._private(dataset)
                item = Dataset()
                self.fill(item, self._random.randint(1, 3), depth + 1)
                dataset[tag] = DataElement(tag, "SQ", Sequence([item]))
            elif kind < 0.4:
                tag = self._private(dataset)
                vr = self._random.choice(("LO", "SH", "LT", "UI", "PN", "CS", "UN", "OB"))
                value = self._bytes() if vr in ("UN", "OB") else self._value(vr)
                dataset[tag] = DataElement(tag, vr, value, validation_mode=config.IGNORE)
            else:
                tag, vr = self._random.choice(LEAVES)
                dataset[tag] = DataElement(tag, vr, self._value(vr), validation_mode=config.IGNORE)

    def _private(self, dataset: Dataset) -> int:
        group = self._random.choice((0x0009, 0x0019, 0x0029, 0x00E1, 0x7053))
        dataset.add_new(group << 16 | 0x10, "LO", self._random.choice(CREATORS))
        return group << 16 | 0x1000 | self._random.randint(0, 255)

    def _word(self, letters: str) -> str:
        middle = "".join(self._random.choice("bcdfghjklmnpqrstvwxz" + letters) for _ in range(6))
        self.planted.append(f"q{middle}x")
        return self.planted[-1]

    def _bytes(self) -> bytes:
        word = self._word("").encode()
        return word + b" " * (len(word) % 2)

    def _value(self, vr: str) -> str:
        if vr == "UI":
            self.planted.append(f"1.2.826.0.1.3680043.77.{self._random.randint(10**6, 10**7)}")
            return self.planted[-1]
        if vr in ("DA", "DT"):
            days = "".join(f"{self._random.randint(*limits):02}" for limits in ((3, 59), (1, 12), (1, 28)))
            self.planted.append(f"19{days}")
            return self.planted[-1] + ("101112" if vr == "DT" else "")
        word = self._word("" if vr in ("AE", "CS", "UR") else self._letters)
        forms = {"CS": word.upper(), "AE": word.upper(), "PN": f"{word.title()}^Oda", "UR": f"http://{word}.org"}
        return forms.get(vr) or self._random.choice((word, word.title(), f"CT {word.upper()}", f"{word} Thorax"))


def texts(dataset: Dataset) -> Iterator[str]:
    for element in dataset.iterall():
        if element.VR != "SQ" and not isinstance(element.value, bytes):
            yield str(element.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
@settings(max_examples=pace.rounds(50, 150), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    random=st.randoms(use_true_random=False),
    count=st.integers(1, 12),
    character_set=st.sampled_from(sorted(CHARACTER_SETS)),
    syntax=st.sampled_from([planted.EXPLICIT, planted.IMPLICIT]),
)
def test_no_value_of_a_source_is_left(
    policy: Policy, random: Random, count: int, character_set: str, syntax: str
) -> None:
    codec, letters = CHARACTER_SETS[character_set]
    ds = planted.slice_of_ct(16, 16)
    ds.SpecificCharacterSet = character_set
    planter = Planter(random, letters)
    planter.fill(ds, count)
    source = read_part10(planted.encoded(ds, syntax), Limits())
    output = Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset
    data = encode_part10(output, transfer_syntax_uid=str(output.file_meta.TransferSyntaxUID))
    said = "\n".join(texts(read_part10(data, Limits()))).lower()
    left = [one for one in planter.planted if one in said or one.encode(codec) in data.lower()]
    assert left == []
