"""Labels and annotations of waveforms: which lead, which interval, which rhythm stays; who was examined goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, read_part10
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
BOTH = pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = """PR|QRS|QT|QTc|QTcB|P-R|PP|PR Interval|QRS Duration|QT Interval|QTc Interval|P-R interval|P axis|QRS Axis|P/QRS/T|P onset|QRS Offset|T End|J point|ST segment|ST elevation|T wave|R peak|
Vent. rate|HR 72 bpm|PR 160 ms|QRS 92 ms|QT/QTc 380/410 ms|P-R-T axes 45 60 30|Normal sinus rhythm|RITMO SINUSALE|ECG NORMALE|LBBB|LVH|1st degree AV block|PAC|SVT|Lead aVR|aVF|-aVR|V3R|X|EKG|MEDIAN BEAT|
Filter 0.05-150 Hz|25 mm/s|10 mm/mV|Unconfirmed|Nonspecific T wave abnormality|Poor R wave progression|SpO2|NIBP|CVP|PLETH|Fp1|C3-A2""".replace("\n", "").split("|")  # fmt: skip


def recording(text: str) -> Dataset:
    """A CT slice that holds a label of a group, one of a channel and an annotation."""
    ds = planted.slice_of_ct()
    ds.PatientName, ds.ReferringPhysicianName, ds.StudyID = "Doe^Jane", "Miller^Ada", "4471"
    channel, group, note = Dataset(), Dataset(), Dataset()
    channel.ChannelLabel = text[:16]
    group.MultiplexGroupLabel, group.ChannelDefinitionSequence = text[:16], Sequence([channel])
    note.UnformattedTextValue = text
    ds.WaveformSequence, ds.WaveformAnnotationSequence = Sequence([group]), Sequence([note])
    return ds


def labels(ds: Dataset) -> tuple[str, str, str]:
    group, note = ds.WaveformSequence[0], ds.WaveformAnnotationSequence[0]
    label = group.ChannelDefinitionSequence[0].get("ChannelLabel", "")
    return str(note.UnformattedTextValue), str(group.get("MultiplexGroupLabel", "")), str(label)


@BOTH
@pytest.mark.parametrize("text", TEXTS)
def test_words_of_waveforms_stay(text: str, policy: Policy) -> None:
    output = Deidentifier(policy, PSEUDONYMS).deidentify(recording(text)).dataset
    if len(text) <= 16:
        assert labels(output) == (text, text, text)
    assert labels(output)[0] == text


@BOTH
@pytest.mark.parametrize(
    ("text", "gone"),
    [("Meyer QRS", "Meyer"), ("QRS Jane", "Jane"), ("PR 03.02.51", "51"), ("MRN-778812 QT", "778812"), ("Dr. Block AV", "Block"), ("Paula Pace", "Pace")],
)  # fmt: skip
def test_who_was_examined_goes(text: str, gone: str, policy: Policy) -> None:
    output = Deidentifier(policy, PSEUDONYMS).deidentify(recording(text)).dataset
    assert not any(gone in label for label in labels(output))


def test_words_of_waveforms_go_from_other_texts() -> None:
    ds = planted.slice_of_ct()
    ds.SeriesDescription, ds.SoftwareVersions = "CT QTc Chest", "QRS 4"
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(ds).dataset
    assert output.SeriesDescription == "CT Chest"


def _codes(ds: Dataset) -> Iterator[tuple[str, str]]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _codes(item)
                if "CodeValue" in item:
                    yield str(item.CodingSchemeDesignator), str(item.CodeValue)


@BOTH
def test_a_real_electrocardiogram_says_which_lead_is_which(policy: Policy) -> None:
    data = Path(str(get_testdata_file("waveform_ecg.dcm"))).read_bytes()
    output = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits())).dataset
    before, after = set(_codes(pydicom.dcmread(str(get_testdata_file("waveform_ecg.dcm"))))), set(_codes(output))
    assert {code for code in before if code[0] == "SCPECG"} <= after
    first = output.WaveformSequence[0].ChannelDefinitionSequence[0].ChannelSourceSequence[0]
    assert first.CodeMeaning == "Lead I (Einthoven)"
    assert output.WaveformSequence[1].MultiplexGroupLabel == "MEDIAN BEAT"
