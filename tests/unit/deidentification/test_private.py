"""Safe private attributes survive with their creator, whatever VR they come with; the quick way knows when a creator goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification import profile
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.explain import explain
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy, SiteAction
from dicomnode.deidentification.private import creators, treatment_on_wire
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.rules import Treatment
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)
SYNTAXES = pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
VALUES = {
    "FL": 1.5, "FD": 2.5, "US": 3, "UL": 4, "SS": -5, "SL": 6, "CS": "YES", "LO": "Chest", "SH": "HEAD", "ST": "axial", "LT": "axial",
    "DS": "1.5", "IS": "7", "UI": "1.2.3.4.77", "AT": 0x00280010,
}  # fmt: skip
#: What pydicom's own dictionary of private attributes knows under a VR of another kind, in Implicit VR.
OTHERWISE = {("Philips Imaging DD 001", 0x2001, 0x55)}


def out_of(ds: Dataset, policy: Policy, syntax: str = planted.EXPLICIT) -> Dataset:
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds, syntax), Limits())).dataset
    return read_part10(encode_part10(done, transfer_syntax_uid=syntax), Limits())


def sequence() -> Sequence:
    item = Dataset()
    item.SliceThickness, item.PatientName, item.SeriesDescription = "1.0", "Doe^Jane", "Chest Wolkenstein"
    return Sequence([item])


def test_a_creator_of_several_values_is_none() -> None:
    ds = Dataset()
    for value, found in (
        ("SIEMENS CSA HEADER", {0x00290010: "SIEMENS CSA HEADER"}),
        (["SIEMENS CSA HEADER", "Doe"], {}),
    ):
        ds.add_new(0x00290010, "LO", value)
        assert creators(ds, ("iso8859",)) == found


@pytest.mark.filterwarnings("ignore")
@POLICIES
@SYNTAXES
def test_each_row_of_the_table_survives_with_its_creator(policy: Policy, syntax: str) -> None:
    blocks: dict[tuple[str, int], Dataset] = {}
    wanted = []
    for row, vr in profile.safe_private().items():
        if vr in ("OB", "OW", "OW/OB") or (not vr and syntax == planted.IMPLICIT) or tuple(row) in OTHERWISE:
            continue  # nobody can look into opaque bytes
        ds = blocks.setdefault((row.creator, row.group), planted.slice_of_ct())
        ds.add_new(row.group << 16 | 0x15, "LO", row.creator)
        tag = row.group << 16 | 0x1500 | row.element
        ds.add_new(tag, vr or "FD", sequence() if vr == "SQ" else VALUES[vr or "FD"])
        wanted.append((row, tag))
    done = {key: out_of(ds, policy, syntax) for key, ds in blocks.items()}
    of = [(row, tag, done[row.creator, row.group]) for row, tag in wanted]
    assert len(of) > 400
    assert [row for row, tag, ds in of if tag not in ds or ds[row.group << 16 | 0x15].value != row.creator] == []


#: Creators whose blocks makers fill with what no table calls safe; some of them have a safe element or two beside.
CREATORS = [
    ("UIH", 0x0065), ("Image Private Header", 0x0065), ("UIH MR HEADER", 0x0067), ("GEMS_IDEN_01", 0x0009), ("GEMS_PATI_01", 0x0011), ("GEMS_PARM_01", 0x0043),
    ("GEMS_ACQU_01", 0x0019), ("GEMS_HELIOS_01", 0x0045), ("SIEMENS CSA HEADER", 0x0029), ("SIEMENS CSA NON-IMAGE", 0x0029), ("SIEMENS MEDCOM HEADER", 0x0029),
    ("SIEMENS MR HEADER", 0x0019), ("SIEMENS MR SDI 02", 0x0021), ("SIEMENS CT VA0  COAD", 0x0019), ("Philips Imaging DD 001", 0x2001), ("AGFA", 0x0019),
    ("TOSHIBA_MEC_CT3", 0x7005), ("Wolkenstein", 0x0009),
]  # fmt: skip
HIDING: dict[str, object] = {
    **VALUES, "LO": "Wolkenstein", "SH": "Wolkenstein", "ST": "Wolkenstein", "LT": "Wolkenstein", "CS": "WOLKENSTEIN", "PN": "Wolkenstein^Oswald", "AE": "WOLKENSTEIN",
    "UT": "seen by Wolkenstein", "UC": "Wolkenstein", "UR": "http://x/Wolkenstein", "OB": b"Wolkenstein ", "UN": b"Wolkenstein ", "DA": "19510203", "DT": "19510203101112",
    "TM": "101112", "AS": "069Y", "SQ": None,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@POLICIES
@SYNTAXES
def test_of_a_block_nothing_stays_that_no_table_calls_safe(policy: Policy, syntax: str) -> None:
    """Whatever its VR and number: default-deny, by the table alone, also where a creator has safe elements."""
    for creator, group in CREATORS:
        ds = planted.slice_of_ct()
        ds.add_new(group << 16 | 0x10, "LO", creator)
        for place, (vr, value) in enumerate(sorted(HIDING.items(), key=lambda item: item[0])):
            for byte in (place, 0x40 + place, 0x80 + place, 0xC0 + place):
                ds.add_new(group << 16 | 0x1000 | byte, vr, sequence() if vr == "SQ" else value)
        done = out_of(ds, policy, syntax)
        safe = profile.safe_private()
        stays = [tag & 0xFF for tag in done.keys() if tag >> 16 == group and tag & 0xFF00 == 0x1000]  # noqa: SIM118
        assert [byte for byte in stays if (creator, group, byte) not in safe] == []
        assert stays or group << 16 | 0x10 not in done, "no creator without its block"
        assert b"wolkenstein" not in planted.encoded(done, syntax).lower()


@POLICIES
@pytest.mark.parametrize("vr", ["SQ", "UN"])
def test_safe_private_sequences_are_walked_whatever_they_came_as(policy: Policy, vr: str) -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x200110C5, "SQ", sequence())
    syntax = planted.EXPLICIT if vr == "SQ" else planted.IMPLICIT
    done = out_of(ds, policy, syntax)
    inner = done.get(0x200110C5).value
    if isinstance(inner, bytes):
        assert b"Doe" not in inner
        assert b"Wolkenstein" not in inner
        assert b"1.0" in inner
        return
    assert inner[0].SliceThickness == 1
    assert "Doe" not in str(inner[0])
    assert "Wolkenstein" not in str(inner[0])


@POLICIES
@pytest.mark.parametrize(
    "value", [b"\xfe\xff\x00\xe0\xff\xff", b"Wolkenstein ", b"\xfe\xff\x00\xe0\x08\0\0\0\x08\0\x10\0\xff\0\0\0"]
)
def test_bytes_that_are_no_sequence_go(policy: Policy, value: bytes) -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x200110C5, "UN", value)
    done = out_of(ds, policy)
    assert 0x200110C5 not in done or not done[0x200110C5].value or b"Wolkenstein" not in bytes(str(done), "utf-8")


@pytest.mark.parametrize(
    ("on_wire", "vr", "wanted"),
    [
        ("FD", "FL", (Treatment.KEEP, "FD")), ("IS", "DS", (Treatment.NUMBER, "IS")), ("LO", "SH", (Treatment.PLAIN, "LO")), ("UN", "FL", (Treatment.KEEP, "FL")),
        ("LT", "FL", (Treatment.REMOVE, "")), ("PN", "LO", (Treatment.REMOVE, "")), ("OB", "FL", (Treatment.REMOVE, "")), ("FD", "", (Treatment.KEEP, "FD")),
        (None, "", (Treatment.REMOVE, "")), ("SQ", "SQ", (Treatment.SEQUENCE, "SQ")),
    ],
)  # fmt: skip
def test_vrs_of_one_kind(on_wire: str | None, vr: str, wanted: tuple[Treatment, str]) -> None:
    assert treatment_on_wire(on_wire, vr) == wanted


def siemens(number: int, *, directionality: str | None = "DIRECTIONAL", b_value: str | None = "1000") -> bytes:
    ds = planted.slice_of_ct()
    ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.3.{number}", str(number)
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    if b_value:
        ds.add_new(0x0019100C, "IS", b_value)
    if directionality:
        ds.add_new(0x0019100D, "CS", directionality)
    return planted.encoded(ds)


@pytest.mark.filterwarnings("ignore")
@POLICIES
@pytest.mark.parametrize(
    "series",
    [
        [siemens(1), siemens(2, directionality=None, b_value=None), siemens(3)],
        [siemens(1, directionality=None, b_value=None), siemens(2)],
        [siemens(1, b_value="778812", directionality=None), siemens(2, b_value="100012", directionality=None)],
        [siemens(1, b_value="100012", directionality=None), siemens(2, b_value="778812", directionality=None)],
    ],
    ids=["without", "with", "kept-later", "gone-later"],
)
def test_a_creator_stays_if_something_of_its_block_does(series: list[bytes], policy: Policy) -> None:
    engine = Deidentifier(policy, PSEUDONYMS)
    files = FileDeidentifier(engine, Limits())
    for data in series * 2:
        done = engine.deidentify(read_part10(data, Limits())).dataset
        assert files.deidentify(data).data == encode_part10(done, transfer_syntax_uid=planted.EXPLICIT)


def of_acme(number: int, *, weight: str = "1.5", note: str = "Chest") -> Dataset:
    ds = planted.slice_of_ct()
    ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.3.{number}", str(number)
    ds.add_new(0x00190010, "LO", "ACME 1.0")
    for byte, (vr, value) in enumerate(
        [
            ("DS", weight),
            ("LO", note),
            ("SQ", sequence()),
            ("UI", "1.2.3.4.77"),
            ("OB", b"\0\1"),
            ("PN", "Roe^Tim"),
            ("DA", "20200301"),
            ("CS", "YES"),
        ]
    ):
        ds.add_new(0x00191010 + byte, vr, value)
    return ds


ACME = [f'(0019,"ACME 1.0",{byte})' for byte in ("10,DS", "11,LO", "12,SQ", "13,UI", "14", "15", "16,DA", "17,CS")]


@pytest.mark.filterwarnings("ignore")
@POLICIES
@SYNTAXES
@pytest.mark.parametrize("safe", [True, False])
def test_a_site_keeps_private_attributes(policy: Policy, syntax: str, *, safe: bool) -> None:
    """With their creator, by the kind of their VR; not what nobody can look into, and no name of a person."""
    options = policy.options if safe else policy.options - {Option.SAFE_PRIVATE}
    site = replace(policy, options=options, site=dict.fromkeys(ACME, SiteAction.KEEP))
    done = out_of(of_acme(1), site, syntax)
    kept = [tag & 0xFF for tag in done.keys() if tag >> 16 == 0x0019]  # noqa: SIM118
    assert kept == [0x10, 0x10, 0x11, 0x12, 0x13, 0x16, 0x17]
    data = planted.encoded(done, syntax)
    assert not [secret for secret in (b"Doe", b"Wolkenstein", b"1.2.3.4.77", b"20200301", b"Roe") if secret in data]
    assert not [tag for tag in out_of(of_acme(1), policy, syntax).keys() if tag >> 16 == 0x0019]  # noqa: SIM118


@POLICIES
@pytest.mark.parametrize("creator", ["ACME 2.0", "ACME"])
def test_a_sites_rule_is_of_one_creator(policy: Policy, creator: str) -> None:
    ds = of_acme(1)
    ds[0x00190010].value = creator
    done = out_of(ds, replace(policy, site=dict.fromkeys(ACME, SiteAction.KEEP)))
    assert not [tag for tag in done.keys() if tag >> 16 == 0x0019]  # noqa: SIM118


@POLICIES
def test_a_site_cleans_and_removes_private_attributes(policy: Policy) -> None:
    ds = of_acme(1, note="Chest Wolkenstein")
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x20011003, "FL", 1000.0)
    ds.add_new(0x20011006, "CS", "N")
    rules = {ACME[1]: SiteAction.CLEAN, '(2001,"Philips Imaging DD 001",03)': SiteAction.REMOVE}
    done = out_of(ds, replace(policy, site=rules))
    assert done[0x00191011].value == "Chest"
    assert 0x20011003 not in done
    assert done[0x20011006].value == "N"


@POLICIES
@SYNTAXES
@pytest.mark.parametrize("action", [SiteAction.KEEP, SiteAction.CLEAN])
def test_a_sites_rule_takes_away_no_safe_attribute_whose_vr_nobody_tells(
    policy: Policy, syntax: str, action: SiteAction
) -> None:
    ds = planted.slice_of_ct()
    ds.add_new(0x20010010, "LO", "Philips Imaging DD 001")
    ds.add_new(0x20011003, "FL", 1000.0)
    site = replace(policy, site={'(2001,"Philips Imaging DD 001",03)': action})
    assert 0x20011003 in out_of(ds, site, syntax)


@pytest.mark.filterwarnings("ignore")
@POLICIES
def test_both_ways_obey_a_sites_private_rules(policy: Policy) -> None:
    engine = Deidentifier(replace(policy, site=dict.fromkeys(ACME[:2], SiteAction.KEEP)), PSEUDONYMS)
    files = FileDeidentifier(engine, Limits())
    series = [
        of_acme(1),
        of_acme(2, weight="2.5"),
        of_acme(3, note="Abdomen"),
        of_acme(4, weight="48151623"),
        of_acme(5, note="Roe"),
    ]
    quick = []
    for data in map(planted.encoded, series * 2):
        done = engine.deidentify(read_part10(data, Limits())).dataset
        again = files.deidentify(data)
        assert again.data == encode_part10(done, transfer_syntax_uid=planted.EXPLICIT)
        quick.append(again.quick)
    assert any(quick)


def test_the_explanation_names_the_site() -> None:
    policy = replace(AI, site={ACME[0]: SiteAction.KEEP})
    ds = of_acme(1)
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    told = {one.where: one for one in explain(ds, output, policy, planted.CT)}
    assert (told["(0019,1010)"].decided, told["(0019,1010)"].outcome) == ("site", "kept")
    assert told["(0019,1011)"].decided == "private: not safe"
