"""Names of series and protocols as devices of many makers write them, and Body Part Examined in many languages: what is needed stays."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.descriptors import cleaned
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])

SERIES = """T2W_TSE_CLEAR|MIP 10/3|eADC (10^-6 mm²/s)|ADC (10^-6 mm²/s)|ADC map (10-6 mm2/s)|T2W_DRIVE_CLEAR|3DI_MC_HR|sSURVEY_MST|SmartSurvey|MobiFlex|sMRCP_3D|iMSDE|DelRec - Thorax 1.0|
YA Standard|YB|Apparent Diffusion Coefficient (mm²/s)|Average DC|Filt_PHA: SWAN|PJN:COL|Ph1/Ax DISCO|SnapShot Pulse 75%|ep2d_diff_mddw_20_p2|ThorRoutine 5.0 B31s|NeuroSpi|InnerEarUHR 0.6 U90u|
AVG 140/80 D30f F_0.6|PET Statics|TrueX + TOF|MYO REST GATED|FC08 ORG|0.5 x 0.3 FC03|mA Mod|SURESTART|S&V|Scanoscope|QUICK 3D|Atlas SPEEDER|R CC ID|DSA 4 f/s|Abd Aorta 3 F/S|THYROID RT LONG|
t1_vibe_e-dixon_tra_p4_bh_W|t2_qtse_tra|cine_retro_tf2d12_iPAT|fl_pc_tp_AO|space_irprep_trig|AX 2.5X2.5|1.25 X 0.625|PORTAL VENOUS 5/5|CTA H/N|BEST DIAST 74 %|LOW DOSE STONE|TIB/FIB|OS CALCIS|WATERS VIEW|
sBTFE_BH|dSENSE|4D-TRAK|HyperBand DWI|MAGIC DWI|ORIG|Volume XL|t1_gre_fsp3d_sag|gre_quick3d_wfi_tra|TTP [s]|XR CHEST 2V|RUQ|Kolano prawe""".replace("\n", "").split("|")  # fmt: skip

REGIONS = ["SCHAEDEL", "KOPF", "HALS", "THORAX", "BECKEN", "KNIE", "HUEFTE", "FUSS", "LEBER", "HERZ", "TORAX", "CRANEO", "CABEZA", "RODILLA", "HOMBRO", "CADERA", "CUELLO", "MUNECA", "PIE", "TESTA", "COLLO", "TORACE", "ADDOME", "BACINO", "GINOCCHIO", "SPALLA", "ANCA", "CRANE", "TETE", "COU", "BASSIN", "GENOU", "EPAULE", "HANCHE", "PIED", "MAIN", "REIN", "HOOFD", "BORST", "BUIK", "BEKKEN", "SCHOUDER", "ENKEL", "GLOWA", "SZYJA", "KLATKA_PIERSIOWA", "BRZUCH", "MIEDNICA", "KOLANO", "BARK", "BIODRO", "KREGOSLUP", "STOPA", "CRANIO", "ABDOME", "PELVE", "JOELHO", "OMBRO", "QUADRIL", "PESCOCO", "TORNOZELO", "MAO", "HUVUD", "HOVED", "HODE", "HLAVA", "BRICHO", "KOLENO", "KOPONYA", "MELLKAS", "KAFA", "BATIN", "DIZ", "OMUZ", "GENUNCHI", "UP_EXM", "LOW_EXM", "HEPAR", "OS_CALCIS", "Kopf", "HIP_RT", "KNEE_LEFT", "CHEST_ABDOMEN_PELVIS", "THORAX_ABDOMEN_BECKEN"]  # fmt: skip


@pytest.mark.parametrize("text", SERIES)
def test_what_a_maker_calls_a_series_stays(text: str) -> None:
    assert cleaned(text) == text


@BOTH
@pytest.mark.filterwarnings("ignore")
def test_regions_stay_in_any_language(policy: Policy) -> None:
    engine = Deidentifier(policy, PSEUDONYMS)
    for region in REGIONS:
        ds = planted.slice_of_ct()
        ds.BodyPartExamined = region
        assert engine.deidentify(ds).dataset.get("BodyPartExamined") == region


@BOTH
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("region", ["KOPF", "Karin", "REIN", "SCHAEDEL", "SCHAEDEL KOPF", "HERZ_LUNGE"])
def test_the_patient_s_own_name_is_no_region(region: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ReferringPhysicianName, ds.OperatorsName = "Schädel^Karin", "Kopf^Rein", "Herz"
    ds.BodyPartExamined = region
    assert "BodyPartExamined" not in Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset


@BOTH
@pytest.mark.filterwarnings("ignore")
def test_words_of_makers_go_where_they_are_the_source_s_or_beside_a_name(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientBirthDate = "Clear^Quick", "19510310"
    ds.SeriesDescription, ds.ProtocolName, ds.StudyDescription = "T2W_TSE_CLEAR MIP 10/3", "QUICK 3D", "CT Waters"
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert (output.SeriesDescription, output.ProtocolName) == ("T2W_TSE MIP", "3D")
    for text in ("Clear Xyzzy", "Xyzzy Magic", "Townes Xyzzy", "MIP Xyzzy 10/3/51", "CT Waters Xyzzy"):
        assert not {"Clear", "Magic", "Townes", "Waters", "51"} & set(cleaned(text).replace("/", " ").split())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("value", ["MEYER", "KNIE MEYER", "HUBER_KOPF", "KNIE 4711", "Dr. Kopf", "AB", "KNIE 12.3.51"])
def test_what_is_no_region_goes(value: str) -> None:
    ds = planted.slice_of_ct()
    ds.BodyPartExamined = value
    assert "BodyPartExamined" not in Deidentifier(EXPORT, PSEUDONYMS).deidentify(ds).dataset


@BOTH
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("keyword", "value"),
    [("ConvolutionKernel", "IMR1,SharpPlus"), ("ConvolutionKernel", "XCA"), ("ConvolutionKernel", "B_VSOFT_B"), ("ConvolutionKernel", "LungSharp"),
     ("SequenceName", "*qst3d1r"), ("ManufacturerModelName", "SymphonyTim"), ("ManufacturerModelName", "Millennium VG"), ("SoftwareVersions", "VHFO3.5"),
     ("ReceiveCoilName", "HeadMatrix"), ("ReceiveCoilName", "dS HeadNeckSpine"), ("ReceiveCoilName", "FlexLarge"), ("ReconstructionMethod", "BackProj"),
     ("LUTExplanation", "VOI LUT"), ("ScanOptions", "SFS"), ("ScanOptions", "SURVIEW"), ("ScanOptions", "IFLOW_GEMS"), ("ScanOptions", "ACC_GEMS")],
)  # fmt: skip
def test_kernels_coils_sequences_and_options_stay(keyword: str, value: str, policy: Policy) -> None:
    ds = planted.slice_of_ct()
    setattr(ds, keyword, value)
    assert Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset.get(keyword) == value
