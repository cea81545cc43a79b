"""Code Strings: the patient's own names, however short, are no terms."""

from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

ENGINES = [Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")) for policy in (AI, EXPORT)]


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize("value", ["LI XU", "XU LI", "LI_XU", "LIXU", "AXIAL XU", "LI"])
def test_a_short_name_is_no_term(value: str, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ImageType, ds.BodyPartExamined = "Li^Xu", ["DERIVED", "PRIMARY", value], value
    done = engine.deidentify(ds)
    assert (list(done.dataset.ImageType), done.leaks) == (["DERIVED", "PRIMARY", "OTHER"], ())
    assert value not in str(done.dataset.get("BodyPartExamined"))


SOMEBODY = ["JULIAN FLETCHER", "FLYNN", "ANN MARSH", "BOB LITTLE", "SHEPHERD", "PAM SHARP", "MAX TROTTER", "VAN HORN", "JD44", "MR JD",
            "NG 62", "SMI99", "AB CD"]  # fmt: skip


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize("value", SOMEBODY)
def test_somebody_is_no_term(value: str, engine: Deidentifier) -> None:
    """Parts of terms, words of the standard and short tokens that are people's beside one another or by themselves."""
    ds = planted.slice_of_ct()
    ds.ImageType = ["ORIGINAL", "PRIMARY", value]
    ds.BodyPartExamined = ds.ScanOptions = ds.FilterMaterial = value
    done = engine.deidentify(ds).dataset
    assert done.ImageType[2] == "OTHER"
    assert not any(done.get(keyword) for keyword in ("BodyPartExamined", "ScanOptions", "FilterMaterial"))


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(
    "value",
    ["CT_SOM5 SPI", "M_FFE", "HELICAL MODE", "SAT2", "NORMAL_CT", "HEAD", "RING", "T1 MAP", "JOSLIN_FLYNN", "CHEST"],
)
def test_words_of_scanners_stay(value: str, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.ImageType = ["ORIGINAL", "PRIMARY", value]
    assert engine.deidentify(ds).dataset.ImageType[2] == value


@pytest.mark.filterwarnings("ignore")  # no Code Strings
@pytest.mark.parametrize(
    "value",
    ["102", "12", "12B", "E12", "ICU12", "BED 5", "RM 12", "BED12", "UNIT 7 CHEST", "12 34", "1 2 3", "US12", "OR12", "2.5", "CT01", "AX 12",
     "ICU2", "LAB 12", "OFFICE 12", "DEPARTMENT 12", "CATH 12"],
)  # fmt: skip
def test_a_number_alone_or_of_a_place_is_no_term(value: str) -> None:
    for engine in ENGINES:
        ds = planted.slice_of_ct()
        ds.ImageType, ds.BodyPartExamined, ds.ContentLabel = ["ORIGINAL", "PRIMARY", value], value, value
        done = engine.deidentify(ds).dataset
        assert (done.ImageType[2], done.get("BodyPartExamined"), done.get("ContentLabel")) == ("OTHER", None, None)


@pytest.mark.filterwarnings("ignore")  # no Code Strings
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageType", "PHASE_75"), ("ImageType", "T2 T1"), ("ImageType", "CT_SOM7 SPI DUAL"), ("ImageType", "CT_SOM15 SPI"), ("ImageType", "DIS2D"),
        ("ImageType", "MPR_3"), ("ImageType", "BONE 2.5"), ("ImageType", "2D"), ("ImageType", "B1"), ("BodyPartExamined", "C7-T1"),
        ("BodyPartExamined", "T12"), ("BodyPartExamined", "L5-S1"), ("LossyImageCompression", "00"), ("LossyImageCompression", "01"), ("ScanOptions", "SAT2"),
        ("ImageType", "ECHO_12"), ("ImageType", "3"), ("ImageType", "0002"), ("ImageType", "0040"), ("ImageType", "0200"),
        ("CassetteSize", "18CMX24CM"), ("CassetteSize", "14INX17IN"), ("RTBeamLimitingDeviceType", "MLCX1"), ("RTBeamLimitingDeviceType", "MLCX2"),
        ("DecoupledNucleus", "31P"), ("DecoupledNucleus", "23NA"), ("DecoupledNucleus", "129XE"),
    ],
)  # fmt: skip
def test_numbers_that_count_something_stay(keyword: str, value: str) -> None:
    for engine in ENGINES:
        ds = planted.slice_of_ct()
        setattr(ds, keyword, ["ORIGINAL", "PRIMARY", value] if keyword == "ImageType" else value)
        assert value in engine.deidentify(ds).dataset[keyword].value


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(
    ("value", "stays"), [("1H", True), ("129XE", True), ("19F", True), ("69F", False), ("069Y", False), ("51F", False)]
)
def test_an_age_is_no_nucleus(value: str, stays: bool, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.ResonantNucleus = value
    assert (engine.deidentify(ds).dataset.get("ResonantNucleus") == value) is stays


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(("value", "stays"), [("1500", True), ("300", True), ("12000", True), ("78812", False)])
def test_a_number_of_somebody_is_no_template(value: str, stays: bool, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.TemplateIdentifier = value
    assert (engine.deidentify(ds).dataset.get("TemplateIdentifier") == value) is stays


@pytest.mark.filterwarnings("ignore")  # 7-7-7 is no Code String
def test_an_own_number_with_zeros_before_it_and_an_own_short_code_go() -> None:
    for engine in ENGINES:
        for number, written in (("00-12-34", "00 12 34"), ("00-12-34", "001234"), ("7-7-7", "7-7-7")):
            ds = planted.slice_of_ct()
            ds.PatientID = number
            ds.SoftwareVersions, ds.SeriesDescription, ds.ScanOptions = f"VB20 {written}", f"CT {written}", written
            done = engine.deidentify(ds)
            assert done.leaks == ()
            if number != "7-7-7":
                assert "12" not in f"{done.dataset.get('SoftwareVersions')} {done.dataset.get('SeriesDescription')}"
            assert written not in str(done.dataset.get("ScanOptions"))


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(("name", "value"), [("Original^Chest", "AXIAL"), ("Li^Xu", "M_FFE"), ("Cid^Other", "AXIAL")])
def test_defined_terms_stay_though_somebody_has_their_name(name: str, value: str, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ImageType, ds.PatientPosition = name, ["DERIVED", "PRIMARY", value], "HFS"
    done = engine.deidentify(ds)
    assert (done.dataset.ImageType[2], done.dataset.PatientPosition, done.leaks) == (value, "HFS", ())


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Modality", "CT"),
        ("ScanningSequence", "SE"),
        ("SequenceVariant", "SK"),
        ("ScanOptions", "FS"),
        ("ViewPosition", "LL"),
        ("PatientOrientation", "AR"),
    ],
)
def test_short_terms_stay_in_their_attribute_alone(keyword: str, value: str, engine: Deidentifier) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ImageType = f"{value.title()}^Xu", ["DERIVED", "PRIMARY", value]
    setattr(ds, keyword, value)
    done = engine.deidentify(ds)
    assert (done.dataset[keyword].value, done.dataset.ImageType[2], done.leaks) == (value, "OTHER", ())


@pytest.mark.parametrize(
    ("keyword", "value", "kinds"),
    [
        ("BodyPartExamined", "XU LI", {"name"}),
        ("BodyPartExamined", "CHEST", set()),
        ("BodyPartExamined", "REMOVED", set()),
        ("ContextIdentifier", "CID 4021", set()),
    ],
)
def test_the_leak_check_reads_code_strings(keyword: str, value: str, kinds: set[str]) -> None:
    source, output = planted.slice_of_ct(), Dataset()
    source.PatientName = "Li^Xu=Removed^Cid"
    output.ensure_file_meta()
    output.set_original_encoding(False, True, "iso8859")
    setattr(output, keyword, value)
    assert {leak.kind for leak in find_leaks(source, output) if leak.tag} == kinds


@pytest.mark.parametrize("engine", ENGINES, ids=("ai", "export"))
@pytest.mark.parametrize(
    ("keyword", "terms"),
    [
        (
            "CompoundGraphicType",
            "MULTILINE INFINITELINE CUTLINE RANGELINE RULER AXIS CROSSHAIR ARROW RECTANGLE ELLIPSE",
        ),
        ("FontNameType", "ISO_32000"),
        ("WaveformSampleInterpretation", "SB SS UB US MB AB"),
    ],
)
def test_defined_terms_of_drawings_and_samples_stay(keyword: str, terms: str, engine: Deidentifier) -> None:
    """Without the term a drawing is none, and nobody knows what the samples are (PS3.3 C.10.5.1.2, C.10.9.1.5)."""
    for term in terms.split():
        ds = planted.slice_of_ct()
        setattr(ds, keyword, term)
        assert engine.deidentify(ds).dataset[keyword].value == term


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Green^Anna", "Brain^Tom", "Kim^Lung", "Skull", "Xyzzy^Head"])
def test_an_official_term_goes_where_somebody_is_called_so(name: str, policy: Policy) -> None:
    """From attributes that the object can do without; of several values it becomes another."""
    term = next(word for word in ("GREEN", "BRAIN", "LUNG", "SKULL", "HEAD") if word in name.upper())
    ds = planted.slice_of_ct()
    ds.ReferringPhysicianName, ds.BodyPartExamined, ds.ScanOptions = name, term, term
    ds.ImageType = ["DERIVED", "PRIMARY", term]
    done = Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds)
    assert done.leaks == ()
    assert term not in str(done.dataset)
    assert done.dataset.ImageType == ["DERIVED", "PRIMARY", "OTHER"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Axial^Linear", "Monochrome2^Xy", "Hfs^Original", "Ct^Mr", "No^Yes", "Identity"])
def test_what_an_object_cannot_do_without_stays_whoever_is_called_so(name: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.BurnedInAnnotation, ds.LossyImageCompression = name, "NO", "00"
    done = ENGINES[0].deidentify(ds)
    output = done.dataset
    assert done.leaks == ()
    assert (output.PhotometricInterpretation, output.Modality, output.LossyImageCompression) == (
        "MONOCHROME2",
        "CT",
        "00",
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["Breast_MRI_001", "Lung^012", "PANCREAS_0001", "Lung^Phantom", "Breast Phantom", "Phantom^64"]
)
def test_the_label_of_a_collection_is_an_identifier_and_its_words_are_nobody(name: str) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.BodyPartExamined, ds.SeriesDescription = name, "BREAST", "Lung Breast MRI"
    ds.ProtocolName, ds.StudyDescription = (
        name.replace("^", "_"),
        "Pancreas " + name.replace("^", " ").replace("_", " "),
    )
    output = ENGINES[1].deidentify(ds).dataset
    assert (output.BodyPartExamined, output.SeriesDescription) == ("BREAST", "Lung Breast MRI")
    if any(char.isdigit() for char in name) and "Phantom" not in name:
        number = "".join(filter(str.isdigit, name))
        assert not any(number in str(output.get(keyword, "")) for keyword in ("ProtocolName", "StudyDescription"))
