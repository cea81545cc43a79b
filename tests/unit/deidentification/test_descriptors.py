"""Free text: words survive for being known and for what stands beside them; nobody's name does, and no needed word is lost."""

from __future__ import annotations

import re
import unicodedata

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.descriptors import cleaned
from dicomnode.deidentification.labels import filtered, is_plain, looks_like_a_device
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.deidentification.transliteration import transliterated
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
POLICIES = pytest.mark.parametrize("policy", [AI, EXPORT], ids=lambda policy: policy.name)

WHOLE = """PTV_60|PTV_7000|PTV70|CTVp|GTV-1|GTV_p|ITV|Lung_L|Lungs|SpinalCord|SpinalCord_PRV05|SpinalCanal|Heart|A_LAD|OpticNrv_L|OpticChiasm
|Glnd_Submand_L|BrachialPlex_R|Bowel_Bag|Musc_Constrict|Parotid_R|Bone_Mandible|Femur_Head_L|Liver-GTV|BODY|Ring1|z_PTV_60
|lung_upper_lobe_left|superior_vena_cava|iliac_vena_left|gluteus_maximus_left|rib_right_12|costal_cartilages|White matter|Necrosis
|Ground glass opacity|Peripheral zone|Nodule 2|Pleural effusion|T1 MPRAGE SAG|t1_mprage_sag_p2_iso_1.0|AX T2 FLAIR FS|T2 DIXON W
|ep2d_diff_3scan_trace_p2_ADC b1000|CHEST W/O CONTRAST 1.25|CT^Thorax_Routine (Adult)|Thorax 1.0 I70f 3|Lung 0.6 Br59|Recon 2: LUNG
|3-plane localizer|MR HAND|DR HAND|CT ABDOMEN/PELVIS WITH CONTRAST|LIVER 3 PHASE|Long axis 2ch|HEAD NECK|Head 5.0 Hr40|Hand/Foot
|Schädel nativ|WB_CT low dose 3.0 B31f|DTI 64 dir|Chest C-/Thorax|RGB(102, 198, 85)|XR C Spine Comp Min 4 Views""".replace("\n", "").split("|")  # fmt: skip


@pytest.mark.parametrize("text", WHOLE)
def test_what_says_where_and_how_survives_whole(text: str) -> None:
    assert cleaned(text) == text
    left = cleaned(f"{text} (Wolkenstein)")
    assert [word for word in re.findall(r"\w+", text) if word not in left] == []


@pytest.mark.parametrize(
    ("text", "left"),
    [
        # after titles, whatever follows
        ("Dr Max Dixon Rod Lin", ""), ("ref. Dr. Dixon / Lin", "ref"), ("Mr. Head", ""), ("Mr Hand CT", "CT"),
        ("CT chest Prof. Heart Power", "CT chest"), ("Herr Young", ""), ("Dr. T. Low Chest", "Chest"), ("CHEST DR LONG", "CHEST DR"), ("CT Head Smith", "CT Head"), ("PTV_60 Smith", "PTV_60"),
        ("Dr S Liver knee", "knee"), ("Prof. L Head 5mm knee", "5mm knee"), ("L. Head", ""), ("CT L. Max", "CT"),
        ("Head MRT, Frau Kopf", "Head MRT"), ("Nurse Bell knee", "knee"), ("Dr.Short", ""),
        # and after those who do something
        ("seen by Hand, chest CT", "seen by chest CT"), ("CT abdomen by Long", "CT abdomen by"), ("mother Rose", ""),
        # before titles
        ("Hand MD", ""), ("CT Head Short, PhD", "CT Head"),
        # beside words that nobody knows
        ("Hand Max", ""), ("John Hand", ""), ("Hand, John", ""), ("Head Smith", ""), ("Smith Long White Head 5.0", ""), ("J. Head", ""),
        ("Young White", ""), ("Philips Young", ""), ("Chest Long", "Chest"), ("T2 Dixon", "T2 Dixon"), ("Chest Dixon", "Chest"),
        ("Max Head", ""), ("O'Neil Head", ""), ("JohnHand", ""),
        # numbers that count nothing
        ("0171 2345 678", ""), ("13.1.1962", ""), ("13 01 62", ""), ("CT 2019", "CT"), ("chest 69 y", "chest y"), ("Room 12", ""),
        ("chest 12 - 34", "chest"), ("chest 12--34 axial", "chest axial"), ("chest 12  34", "chest"), ("chest 12. 34", "chest"),
        ("tel 123", ""), ("MRN 4711", ""), ("Smith 7", ""), ("Chest1962", ""), ("058Y chest", "chest"), ("200 300 400", ""),
    ],
)  # fmt: skip
def test_names_and_numbers_of_persons_go(text: str, left: str) -> None:
    assert cleaned(text) == left


ACCENTED = [
    "María",
    "Céline",
    "César",
    "Colón",
    "Lidén",
    "Óscar",
    "Marín",
    "Çakırca",
    "Ødegård",
    "Åström",
    "Mar\u200bía",
    "Ce\u0301line",
]


@pytest.mark.parametrize("name", ACCENTED)
@POLICIES
def test_a_name_with_other_letters_than_those_of_ascii_goes(policy: Policy, name: str) -> None:
    """Runs of its letters are words (`Mar`, `C`, `line`), the name is none; marks may stand by themselves."""
    for patient in ("Doe^Jane", f"{name}^X"):
        ds = planted.slice_of_ct()
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", patient
        ds.SeriesDescription, ds.ProtocolName, ds.SoftwareVersions = f"Thorax {name} 5 mm", f"{name} CT", f"VB20 {name}"
        done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits()))
        kept = {done.dataset.get(key) for key in ("SeriesDescription", "ProtocolName", "SoftwareVersions")}
        assert not {letter for value in kept if value for letter in str(value)} - set("Thorax 5 mm CT VB20")
        assert done.leaks == ()


SURNAMES = ["McCord", "McRae", "McCoy", "LaRue", "LaForce", "LaBar", "LeRoy", "MacKay", "DelMar", "DeLine", "DeForce", "MacPhase", "VanScan", "Rao", "Opp", "Welch", "Mach", "Vela"]  # fmt: skip


@pytest.mark.parametrize("name", SURNAMES)
def test_a_surname_whose_parts_are_words_goes(name: str) -> None:
    """Camel case, and words of makers or abbreviations that are frequent surnames, alone and with something joined to them."""
    for form in ("{}", "CT {}", "{} T1", "thorax ({})", "{}1", "{}5mm", "MR{}"):
        text = form.format(name)
        assert name.casefold() not in cleaned(text).casefold()
        assert name.casefold() not in filtered(text, is_plain).casefold()


@POLICIES
@pytest.mark.parametrize("name", ["Mai", "Ian", "Amy", "Max", "Wu", "Ng", "Jo", "Ed"])
def test_the_source_s_own_short_name_goes_from_makers_texts_with_whatever_is_joined_to_it(
    policy: Policy, name: str
) -> None:
    for role in ("PatientName", "OperatorsName"):
        for text in (f"{name}T2", f"MR{name}", f"CT{name}", f"{name}5mm", f"{name}V2"):
            ds = planted.slice_of_ct()
            setattr(ds, role, f"{name}^Zoltan")
            ds.SoftwareVersions = ds.ConvolutionKernel = ds.ReceiveCoilName = text
            done = Deidentifier(policy, PSEUDONYMS).deidentify(ds)
            assert done.leaks == ()
            assert not any(
                done.dataset.get(key) for key in ("SoftwareVersions", "ConvolutionKernel", "ReceiveCoilName")
            )


@pytest.mark.parametrize("text", ["Gil1", "AbtT2", "Ems5mm", "ZyxT2", "MRZyx", "Vaca5mm"])
def test_three_letters_that_nobody_knows_joined_to_a_word_go_from_makers_texts(text: str) -> None:
    assert filtered(text, is_plain) == ""


@pytest.mark.parametrize(
    "text", ["RAO 30 CRA 20", "opp phase", "B30f", "Br59", "Prisma_fit", "MRIdian", "TrueX", "mAs"]
)
def test_what_is_written_alike_stays(text: str) -> None:
    assert filtered(text, is_plain) == text


def test_words_of_other_alphabets_stay_with_what_is_joined_to_them() -> None:
    assert cleaned("SchädelCT nativ") == "SchädelCT nativ"


@POLICIES
def test_a_name_in_letters_of_another_width_goes(policy: Policy) -> None:
    for patient, typed in (
        ("ＤＯＥＲ^Jane", "DOER"),
        ("DOER^JANE", "ＤＯＥＲ"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ヤマダ"),
        ("ヤマダ^タロウ", "ﾔﾏﾀﾞ"),
    ):
        ds = planted.slice_of_ct()
        ds.SpecificCharacterSet, ds.PatientName = "ISO_IR 192", patient
        ds.SeriesDescription = ds.SoftwareVersions = f"CT {typed}"
        ds.StationName = typed
        done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(planted.encoded(ds), Limits()))
        for keyword in ("SeriesDescription", "SoftwareVersions", "StationName"):
            assert unicodedata.normalize("NFKC", typed) not in unicodedata.normalize(
                "NFKC", str(done.dataset.get(keyword))
            )


def test_words_that_a_site_knows_stay_but_where_somebody_is_called_so() -> None:
    assert cleaned("Prismatron axial 5mm") == "axial 5mm"
    assert cleaned("Prismatron axial 5mm", also=frozenset({"prismatron"})) == "Prismatron axial 5mm"
    assert cleaned("Prismatron axial 5mm", frozenset({"prismatron"}), also=frozenset({"prismatron"})) == "axial 5mm"
    assert cleaned("Dr. Prismatron axial 5mm", also=frozenset({"prismatron"})) == "axial 5mm"


def test_the_source_s_own_words_go_however_technical() -> None:
    assert cleaned("CT Head Brain", frozenset(["head"])) == "CT Brain"
    assert cleaned("HeadNeck SpinalCord white matter", frozenset(["head", "white", "cord"])) == "matter"
    assert cleaned("CT Long axis Heart", frozenset(), frozenset(["heart"])) == "CT Long axis"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Gemma Sierra Carl", ""), ("Jade Serenity Kim Lee", ""), ("DOE JOY", ""), ("SIGNA Joy Wolkenstein", "SIGNA"), ("Harmony", "Harmony"),
        ("Carl Zeiss Meditec", "Carl Zeiss Meditec"), ("GE MEDICAL SYSTEMS", "GE MEDICAL SYSTEMS"), ("SIEMENS", "SIEMENS"),
        ("SOMATOM Definition AS+", "SOMATOM Definition AS+"), ("CT-derived mu-map", "CT-derived mu-map"), ("HEA;HEP", "HEA;HEP"),
        ("4.1.3.3.20120 0171 2345 678", "4.1.3.3."), ("syngo MR E11", "syngo MR E11"), ("PSF+TOF 3i21s", "PSF+TOF 3i21s"),
    ],
)  # fmt: skip
def test_makers_texts(text: str, left: str) -> None:
    assert filtered(text, is_plain) == left


@pytest.mark.parametrize(
    "text", ["CT01", "AWP45000", "45678", "LightSpeed VCT 3", "(01)00884838054325(21)12345678", "MR scanner 2"]
)
def test_devices(text: str) -> None:
    assert looks_like_a_device(text)


@pytest.mark.parametrize(
    "text",
    [
        "Schwester Huber",
        "Wolkenstein",
        "0171 2345 678",
        "Kim Lee",
        "KIM",
        "Low",
        "Zwillinger1",
        "Müller1",
        "Huber12",
        "SMITH1",
        "",
    ],
)
def test_no_devices(text: str) -> None:
    assert not looks_like_a_device(text)


def test_transliterated_names() -> None:
    assert set(transliterated("müller")) == {"mueller", "muller"}
    assert set(transliterated("łukasz")) == {"lukasz"}
    assert transliterated("doe") == transliterated("山田") == ()


def both_ways(ds: Dataset, policy: object) -> Dataset:
    """Output of the full way, equal to that of the quick way for the second of two slices."""
    data = planted.encoded(ds)
    engine = Deidentifier(policy, PSEUDONYMS)  # type: ignore[arg-type]
    done = engine.deidentify(read_part10(data, Limits())).dataset
    files = FileDeidentifier(engine, Limits())
    ds.InstanceNumber = "18"
    files.deidentify(planted.encoded(ds))
    again = files.deidentify(data)
    assert again.data == encode_part10(done, transfer_syntax_uid=planted.EXPLICIT)
    return read_part10(again.data, Limits())


@POLICIES
def test_a_name_that_the_headers_know_stays_in_no_text(policy: object) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.OperatorsName, ds.ReferringPhysicianName = "Young-Head^White", "Philips^Hand", "Müller^Änne"
    ds.ResponsiblePerson, ds.PatientAddress, ds.PatientID = "Power^Max", "5 Foot Lane", "B1000"
    ds.StudyDescription, ds.SeriesDescription = "CT Chest Philips Head Foot", "Thorax Power b1000"
    ds.ProtocolName, ds.SequenceName, ds.SoftwareVersions = "Hand routine", "Philips MUELLER", "syngo Young"
    ds.Manufacturer, ds.StationName, ds.DeviceSerialNumber, ds.GantryID = (
        "Philips Medical Systems",
        "MUELLER",
        "HEAD",
        "MULLER 1",
    )
    done = both_ways(ds, policy)
    assert (done.StudyDescription, done.SeriesDescription, done.ProtocolName) == ("CT Chest", "Thorax", "routine")
    assert ("SequenceName" in done, done.SoftwareVersions) == (False, "syngo")
    assert done.Manufacturer == "Philips Medical Systems"  # says who made it, whoever is called so
    for keyword in ("StationName", "DeviceSerialNumber", "GantryID"):
        assert str(done.get(keyword, "ID")).startswith("ID")


@POLICIES
def test_a_device_s_own_names_stay_and_no_person_s(policy: object) -> None:
    ds = planted.slice_of_ct()
    ds.StationName, ds.DeviceSerialNumber, ds.GantryID, ds.DetectorID = "AWP45000", "45678", "Nurse Huber", "13.01.1962"
    ds.DeviceDescription = "0171 2345 678"
    done = both_ways(ds, policy)
    if policy is EXPORT:
        assert not {"StationName", "DeviceSerialNumber", "GantryID", "DetectorID"} & set(done.dir())
        return
    assert (done.StationName, done.DeviceSerialNumber) == ("AWP45000", "45678")
    assert all(done[keyword].value.startswith("ID") for keyword in ("GantryID", "DetectorID", "DeviceDescription"))
    assert done.GantryID == both_ways(ds, policy).GantryID != done.DetectorID


@POLICIES
def test_content_that_tells_of_devices(policy: object) -> None:
    from tests.unit.deidentification.kinds_planted import report

    ds = report().dataset
    item = Dataset()
    concept = Dataset()
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = "121013", "DCM", "Device Observer Name"
    item.RelationshipType, item.ValueType, item.ConceptNameCodeSequence = "CONTAINS", "TEXT", Sequence([concept])
    item.TextValue = "Schwester Huber"
    ds.ContentSequence = Sequence([item])
    source = read_part10(planted.encoded(ds), Limits())
    done = Deidentifier(policy, PSEUDONYMS).deidentify(source).dataset  # type: ignore[arg-type]
    assert "Huber" not in done.ContentSequence[0].TextValue


@POLICIES
def test_figures_where_a_name_belongs_have_no_initials(policy: object) -> None:
    """An id in groups is nobody's family and given name: ``1000`` is no user of a system."""
    ds = planted.slice_of_ct()
    ds.OperatorsName, ds.SequenceName, ds.SeriesDescription = "000 164", "*ep_b1000#12", "Thorax 000164"
    done = both_ways(ds, policy)
    assert done.SequenceName == "*ep_b1000#12"
    assert "164" not in str(done.get("SeriesDescription"))


@POLICIES
@pytest.mark.parametrize(
    ("name", "text", "left"),
    [
        ("Phantom^Laura", "T1 AX Phantom", "T1 AX"),
        ("Test^Zbigniew", "test MR", "MR"),
        ("Phantom^64", "ACR phantom", "ACR phantom"),
        ("Phantom^QA", "ACR phantom", "ACR phantom"),
        ("Test^Patient", "test bolus", "test bolus"),
    ],
)
def test_a_patient_may_be_called_phantom(policy: object, name: str, text: str, left: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.SeriesDescription = name, text
    assert both_ways(ds, policy).SeriesDescription == left


@POLICIES
def test_a_model_is_no_reason_to_keep_the_patient_s_name(policy: object) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ManufacturerModelName = "Head^Amy", "GTV_Head"
    ds.SecondaryCaptureDeviceManufacturer = "Siemens Head"
    done = both_ways(ds, policy)
    assert "Head" not in f"{done.ManufacturerModelName} {done.get('SecondaryCaptureDeviceManufacturer')}"
