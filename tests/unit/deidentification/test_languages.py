"""Descriptors in many languages, those without blanks between words among them: what says where and how stays, names go."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.descriptors import cleaned
from tests.unit.deidentification import planted
from tests.unit.deidentification.test_descriptors import POLICIES, PSEUDONYMS

TEXTS = """胸部CT|CT胸部|頭部MRI|頭部単純CT|胸腹部造影CT|T2強調横断|拡散強調像|脂肪抑制T1強調|脳MRI|右膝|左 膝|3D造影|胸部CT5mm|胸部平扫|上腹部增强|头颅CT平扫|纵隔窗|腹部CT平扫+增强|膝關節 MRI|흉부 CT|
뇌 MRI 조영|복부CT|요추 MRI|КТ органов грудной клетки|МРТ головного мозга|КТ ОГК нативно|Томография брюшной полости с контрастом|RM da coluna lombar|TC de tórax|RM cérebro com contraste|
Ressonância magnética do joelho direito|RM de columna lumbar|TAC toracoabdominal|RX tórax PA y lateral|Scanner thoraco-abdomino-pelvien|IRM du genou gauche|TC addome completo|Röntgen thorax|CT hjärna|
MR lændecolumna|Vatsan TT|TK klatki piersiowej z kontrastem|RM kręgosłupa lędźwiowego|CT hrudníku|Koponya CT|Toraks BT|Kontrastlı abdomen BT|CT sọ não|Αξονική θώρακος|Moelle épinière|Angio Becken-Bein""".replace(
    "\n", ""
).split("|")


@pytest.mark.parametrize("text", TEXTS)
def test_what_says_where_and_how_survives_in_any_language(text: str) -> None:
    assert cleaned(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("山田胸部CT", ""),
        ("胸部CT 山田太郎", "胸部CT"),
        ("李增强 胸部", "胸部"),
        ("조영수 뇌", ""),
        ("KIM胸部CT", ""),
        ("CT胸部Kim", ""),
        ("胸部CT12345678", ""),
        ("佐藤病院胸部", ""),
        ("左 明 胸部", "胸部"),
        ("КТ Иванов", "КТ"),
        ("ROSE LA CRUZ", ""),
        ("胸部" * 40, ""),
    ],
)
def test_names_and_numbers_beside_words_of_any_language_go(text: str, left: str) -> None:
    assert cleaned(text) == left


@pytest.mark.parametrize("name", ["胸部", "ct", "部c"])
def test_a_forbidden_word_takes_the_whole_run(name: str) -> None:
    assert cleaned("胸部CT", frozenset([name])) == ("胸部CT" if name == "部c" else "")


@POLICIES
def test_a_patient_s_own_name_goes_though_it_is_made_of_such_words(policy: object) -> None:
    ds = planted.slice_of_ct()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.PatientName, ds.SeriesDescription, ds.StudyDescription = "Left^Hand=左^手=", "左手 単純", "腹部CT 左"
    done = Deidentifier(policy, PSEUDONYMS).deidentify(ds)  # type: ignore[arg-type]
    assert not done.leaks
    assert "左" not in str(done.dataset)
    assert done.dataset.StudyDescription == "腹部CT"
