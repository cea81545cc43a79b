"""What an explanation says of each attribute is what the engine did, held against source and output themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.explain import Explanation, explain
from dicomnode.deidentification.minimal import minimal
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy, SiteAction
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_part10
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import pet, report

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
METHODS = "(0012,0064)"  # written anew: told as a whole
CREATOR = "Philips Imaging DD 001"
POLICIES = {
    "ai": AI,
    "export": EXPORT,
    "unsafe": replace(EXPORT, options=EXPORT.options - {Option.SAFE_PRIVATE}),
    "site": replace(AI, site={'(0019,"ACME 1.0",12,SQ)': SiteAction.KEEP, "SeriesDescription": SiteAction.EMPTY}),
    "bare": replace(EXPORT, options=frozenset()),
}


def private_block(ds: Dataset) -> Dataset:
    ds.add_new(0x20010010, "LO", CREATOR)
    ds.add_new(0x20011003, "FL", 1000.0)
    return ds


def nested() -> Dataset:
    """Private blocks, coded concepts, icons and empty values, at the top, within a sequence and within a private one."""
    item = private_block(Dataset())
    item.PatientName, item.PatientComments, item.Rows, item.Columns = "Doe^Jane", "Wolkenstein", 2, 2
    item.PixelData = b"\0\0\0\0"
    item["PixelData"].VR = "OW"
    concept = Dataset()
    concept.CodeMeaning = "Wolkenstein"
    item.PurposeOfReferenceCodeSequence = Sequence([concept])
    ds = private_block(planted.slice_of_ct())
    ds.SourceImageSequence = Sequence([item])
    ds.add_new(0x00190010, "LO", "ACME 1.0")
    ds.add_new(0x00191012, "SQ", Sequence([item]))
    ds.AdmittingDate, ds.AccessionNumber, ds.ReferencedStudySequence = "", "", Sequence()
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "before"
    ds.LongitudinalTemporalInformationModified = "UNMODIFIED"
    ds.DeidentificationMethodCodeSequence = Sequence([concept])
    return ds


def attributes(ds: Dataset, where: str = "") -> Iterator[tuple[str, Dataset, int]]:
    for tag in sorted(ds.keys()):
        place = f"{where}{tag}".replace(" ", "")
        yield place, ds, int(tag)
        if ds[tag].VR == "SQ":
            for number, item in enumerate(ds[tag].value, 1):
                yield from attributes(item, f"{place}[{number}]")


def told_of(source: Dataset, output: Dataset, policy: Policy, **how: bool) -> dict[str, Explanation]:
    lines = list(explain(source, output, policy, str(source.SOPClassUID), **how))
    told = {line.where: line for line in lines}
    assert len(told) == len(lines)
    return told


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("make", [nested, lambda: pet().dataset, lambda: report().dataset])
def test_every_line_says_what_was_done(make: object, name: str, syntax: str) -> None:
    policy = POLICIES[name]
    data = planted.encoded(make(), syntax)  # type: ignore[operator]
    source = read_part10(data, Limits())
    output = Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset
    told = told_of(source, output, policy)
    after = {place: ds[tag] for place, ds, tag in attributes(output) if not place.startswith(f"{METHODS}[")}
    assert after.keys() <= told.keys()
    for place, line in told.items():
        assert (place in after) is (line.outcome != "removed"), place
        if place.startswith(METHODS):
            assert line.outcome in ("added", "changed")
        if line.treatment == "remove" or line.decided == "private: not safe":
            assert line.outcome == "removed", place
        if line.outcome == "walked":
            assert f"{place}[1]" in {one[: len(place) + 3] for one in told}, place
    before = {place: ds[tag] for place, ds, tag in attributes(source)}
    for place in before.keys() & after.keys():
        old, new = before[place], after[place]
        same = old.value == new.value or (old.is_empty and new.is_empty)
        if old.VR != "SQ" or old.is_empty:
            assert (told[place].outcome == "kept") is same, place


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
def test_who_decided_is_named(policy: Policy) -> None:
    source = nested()
    told = told_of(source, Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset, policy)
    said = {place: (line.decided, line.outcome) for place, line in told.items()}
    assert said["(2001,0010)"] == ("private: creator of what is kept", "kept")
    assert said["(0019,0010)"] == ("private: creator of nothing", "removed")
    assert said["(0012,0062)"] == ("always", "kept")
    assert said["(0012,0063)"] == ("always", "changed")
    assert said["(0028,0303)"] == ("always", "changed")
    assert said["(0008,0050)"][1] == "kept"
    assert said["(0008,2112)[1](7FE0,0010)"] == ("default", "removed")
    assert said["(0008,2112)[1](0040,A170)[1](0008,0100)"] == ("code: meaning of its scheme", "added")
    unsafe = replace(policy, options=policy.options - {Option.SAFE_PRIVATE})
    told = told_of(source, Deidentifier(unsafe, PSEUDONYMS).deidentify(source).dataset, unsafe)
    assert told["(2001,1003)"].decided == "private: safe, not retained"


def test_of_a_minimal_copy_the_leak_check_decided() -> None:
    source = planted.slice_of_ct()
    output = Deidentifier(AI, PSEUDONYMS).deidentify(source).dataset
    told = told_of(source, minimal(output), AI, minimal=True)
    assert told["(0018,1210)"].decided == "leak check: minimal copy"
    assert told["(0010,1040)" if "(0010,1040)" in told else "(0008,0090)"].decided.startswith("table")
    assert told["(0028,0010)"].outcome == "kept"
