"""The page of PDF: whose it is, what it says, and what it says of what it has no room for."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset

from dicomnode.findings import Findings
from dicomnode.results import pdf
from dicomnode.results.pdf import Page, printable_name
from dicomnode.results.sources import read_sources
from dicomnode.study import ResultRole
from dicomnode.texts import Words
from tests import tools
from tests.unit.results import material

NAMES = {
    "Müller^Jürgen": "Müller Jürgen",
    "Yamada^Tarou=山田^太郎=やまだ^たろう": "Yamada Tarou  ·  山田 太郎  ·  やまだ たろう",
    "Hong^Gildong=洪^吉洞=홍^길동": "Hong Gildong  ·  洪 吉洞  ·  홍 길동",
    "홍^길동": "홍 길동",
    "張^國榮": "張 國榮",
    "Nguyễn^Thị Hạnh": "Nguyễn Thị Hạnh",
    "Wang^XiaoDong==": "Wang XiaoDong",
    "ﾔﾏﾀﾞ^ﾀﾛｳ": "ﾔﾏﾀﾞ ﾀﾛｳ",
    "Qabbani^Nizar=قباني^لنزار": "Qabbani Nizar",
    "": "",
}


@pytest.mark.parametrize("name", list(NAMES))
def test_names_are_printed_in_their_own_letters(name: str) -> None:
    assert printable_name(name, Words()) == NAMES[name]


@pytest.mark.parametrize("name", ["قباني^لنزار", "שרון^דבורה", "นามสกุล^ชื่อ"])
def test_a_name_that_cannot_be_printed_is_no_row_of_question_marks(name: str) -> None:
    assert printable_name(name, Words("de")) == "(in Buchstaben, die diese Seite nicht drucken kann)"


def text_of(page: Page, folder: object) -> str:
    path = f"{folder}/page.pdf"
    with open(path, "wb") as file:  # noqa: PTH123
        file.write(pdf.draw(page))
    done = subprocess.run(
        [tools.require("pdftotext"), "-layout", path, "-"], capture_output=True, check=True, timeout=60
    )
    return done.stdout.decode()


def page_of(findings: Findings, language: str = "en", *, picture: bool = True) -> Page:
    identity = Dataset()
    identity.PatientName, identity.PatientID = "Müller^Jürgen", "A-4711"
    return Page(
        picture=np.zeros((96, 128, 3), np.uint8) if picture else None,
        findings=findings,
        identity=identity,
        found=frozenset({1, 2}),
        words=Words(language),
        made="2026-04-12 11:30 DICOMNODE",
    )


@pytest.mark.parametrize("picture", [True, False])
def test_a_hundred_regions_leave_room_for_what_every_page_must_say(tmp_path: object, *, picture: bool) -> None:
    few = material.findings_for(remarks=("A remark that matters.",))
    many = replace(few, regions=tuple(replace(few.regions[0], label=f"Structure {n}") for n in range(100)))
    text = text_of(page_of(many, picture=picture), tmp_path)
    shown = text.count("Structure ")
    assert 3 < shown < 100
    assert f"and {100 - shown} more" in text
    for words in ("A remark that matters.", "Model ct-lung 1.0.0", "2026-04-12 11:30", "A-4711", "Müller Jürgen"):
        assert words in text, words
    many = replace(few, remarks=tuple(f"Remark {n}" for n in range(100)))
    text = text_of(page_of(many, picture=picture), tmp_path)
    assert "Both lungs" in text
    assert f"and {100 - text.count('Remark ')} more" in text
    assert "Model ct-lung 1.0.0" in text


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "Mean lung density -845.25 HU"),
        ("de", "Mittlere Lungendichte -845.25 HE"),
        ("fr", "Densité pulmonaire moyenne -845.25 UH"),
        ("zh", "平均肺密度 -845.25 HU"),
    ],
)
def test_values_have_names_and_units_that_people_read(tmp_path: object, language: str, words: str) -> None:
    assert words in text_of(page_of(material.findings_for(), language), tmp_path)


def test_the_object_holds_the_page_and_names_its_images() -> None:
    series = read_sources(material.copies(material.source_series()))
    page = page_of(material.findings_for())
    made = pdf.build(page, series, (3, 1, 3), material.context_for(), ResultRole.DOCUMENT)
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == pdf.draw(page)
    assert len(made.EncapsulatedDocument) % 2 == 0
    assert made.BurnedInAnnotation == "YES", "the patient stands on it"
    named = [item.ReferencedSOPInstanceUID for item in made.SourceInstanceSequence]
    assert named == [series.headers[index].SOPInstanceUID for index in (1, 3)]
    assert (made.DocumentTitle, made.MIMETypeOfEncapsulatedDocument) == ("AI Lungs on CT", "application/pdf")
    none = pdf.build(page, series, (), material.context_for(), ResultRole.DOCUMENT)
    assert [item.ReferencedSOPInstanceUID for item in none.SourceInstanceSequence] == [series.headers[0].SOPInstanceUID]


def test_the_picture_is_on_the_page() -> None:
    found = material.findings_for()
    assert b"/Subtype /Image" in pdf.draw(page_of(found))
    assert b"/Subtype /Image" not in pdf.draw(page_of(found, picture=False))


def test_an_outcome_is_told_on_a_page(tmp_path: object) -> None:
    page = replace(page_of(material.findings_for(), picture=False), outcome="pixel-missing")
    page.identity.PatientBirthDate, page.identity.StudyDate = "19500102", "20260412"
    page.identity.AccessionNumber = "ACC-1"
    text = text_of(page, tmp_path)
    for words in ("Not processed: ", "Looked for: Right lung, Left lung.", "Born 1950-01-02", "2026-04-12", "ACC-1"):
        assert words in text, words
    header = material.copies(material.source_series())[2]
    made = pdf.build_outcome(page, header, material.context_for())
    assert made.SourceInstanceSequence[0].ReferencedSOPInstanceUID == header.SOPInstanceUID
