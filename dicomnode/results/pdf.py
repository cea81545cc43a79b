"""The report as one page of PDF, encapsulated (PS3.3 A.45.1): for those who read documents rather than objects.

May live here: the page and its object. The page names patient and study, so that a print cannot be taken for another's:
it is made of the source's identity, and says so in Burned In Annotation.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader, simpleSplit
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from dicomnode.findings import Findings
from dicomnode.forms import SOP_CLASSES, Form
from dicomnode.imaging.typeface import NAME, PATH, drawable, is_drawable
from dicomnode.results.concepts import code_item
from dicomnode.results.context import ResultContext
from dicomnode.results.document import DIAGNOSTIC_IMAGING_REPORT
from dicomnode.results.equipment import stamp
from dicomnode.results.outcome import lines_of, told
from dicomnode.results.report import remarks_of
from dicomnode.results.sources import EMPTY_IDENTITY, SourceSeries
from dicomnode.study import ResultRole
from dicomnode.texts import Words

_WIDTH, _HEIGHT = A4
_MARGIN: Final = 40.0
_LEAST_PICTURE: Final = 240.0
_MOST_REMARKS: Final = 180.0
_END: Final = _MARGIN + 22  # above it stands everything but the last line
_SIZE: Final = 9.5
_LEADING: Final = 1.35
_INK: Final = (0.1, 0.11, 0.14)
_WARNING: Final = (0.72, 0.38, 0.0)
_ONE_AT_A_TIME: Final = threading.Lock()  # the library registers typefaces for the whole process


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What stands on the page.

    Attributes
    ----------
    picture
        uint8 (rows, columns, 3): the key image; None: none.
    identity
        The source's own attributes: patient and study.
    found
        Numbers of the segments that have a voxel.
    outcome
        Code for which there are no other results; empty: there are.
    """

    picture: NDArray[np.uint8] | None = field(repr=False)
    findings: Findings
    identity: Dataset = field(repr=False)
    found: frozenset[int]
    words: Words
    made: str
    outcome: str = ""


def build(
    page: Page,
    series: SourceSeries,
    slices: Sequence[int],
    context: ResultContext,
    role: ResultRole,
) -> Dataset:
    """Encapsulated PDF in the space of its sources."""
    return _encapsulated(page, [series.headers[index] for index in sorted(set(slices)) or [0]], context, role)


def build_outcome(page: Page, header: Dataset, context: ResultContext) -> Dataset:
    """Encapsulated PDF that says why there are no other results."""
    return _encapsulated(page, [header], context, ResultRole.OUTCOME)


def _encapsulated(page: Page, headers: Sequence[Dataset], context: ResultContext, role: ResultRole) -> Dataset:
    data = draw(page)
    algorithm = page.findings.algorithm
    dataset = Dataset()
    for keyword in EMPTY_IDENTITY:
        setattr(dataset, keyword, "")
    dataset.SOPClassUID = SOP_CLASSES[Form.PDF]
    dataset.StudyInstanceUID = headers[0].StudyInstanceUID
    dataset.Modality = "DOC"
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = f"AI {algorithm.title}"[:1024]
    dataset.ConceptNameCodeSequence = [code_item(DIAGNOSTIC_IMAGING_REPORT)]
    dataset.SourceInstanceSequence = []
    for header in {str(header.SOPInstanceUID): header for header in headers}.values():
        reference = Dataset()
        reference.ReferencedSOPClassUID = header.SOPClassUID
        reference.ReferencedSOPInstanceUID = header.SOPInstanceUID
        dataset.SourceInstanceSequence.append(reference)
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocument = data + b"\x00" * (len(data) % 2)
    dataset.EncapsulatedDocumentLength = len(data)
    stamp(dataset, role, algorithm, context)
    return dataset


def draw(page: Page) -> bytes:
    """The page: the same content gives the same bytes."""
    buffer = io.BytesIO()
    with _ONE_AT_A_TIME:
        if NAME not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(NAME, str(PATH)))
        canvas = Canvas(buffer, pagesize=A4, invariant=1, pageCompression=1)
        canvas.setTitle("AI result")
        canvas.setProducer("dicomnode")
        _Pen(canvas).write(page)
        canvas.showPage()
        canvas.save()
    return buffer.getvalue()


class _Pen:
    """Writes down the page from top to bottom."""

    def __init__(self, canvas: Any) -> None:
        self._canvas = canvas
        self._y = _HEIGHT - _MARGIN

    def line(self, words: str, size: float = _SIZE, colour: tuple[float, float, float] = _INK) -> None:
        """A paragraph, wrapped."""
        self._canvas.setFillColorRGB(*colour)
        self._canvas.setFont(NAME, size)
        for part in _wrapped(words, size):
            self._y -= size * _LEADING
            self._canvas.drawString(_MARGIN, self._y, part)

    def lines(self, sentences: Sequence[str], end: float, more: str) -> None:
        """Paragraphs down to a height; how many there was no room for is said."""
        for place, sentence in enumerate(sentences):
            after = _SIZE * _LEADING if place + 1 < len(sentences) else 0.0
            if self._y - height_of((sentence,)) - after < end:
                self.line(more.format(count=len(sentences) - place), colour=_WARNING)
                return
            self.line(sentence)

    def rule(self) -> None:
        """A thin line across."""
        self._y -= 7
        self._canvas.setStrokeColorRGB(0.75, 0.77, 0.8)
        self._canvas.line(_MARGIN, self._y, _WIDTH - _MARGIN, self._y)
        self._y -= 3

    def picture(self, rgb: NDArray[np.uint8]) -> None:
        """A picture across the page, or as large as there is room above the last line."""
        room = self._y - _END - 16
        height = min((_WIDTH - 2 * _MARGIN) * rgb.shape[0] / rgb.shape[1], room)
        width = height * rgb.shape[1] / rgb.shape[0]
        self._y -= height + 8
        self._canvas.drawImage(ImageReader(Image.fromarray(rgb)), (_WIDTH - width) / 2, self._y, width, height)

    def write(self, page: Page) -> None:
        """Everything: first what must stand on every page, then what there is room for."""
        words, algorithm = page.words, page.findings.algorithm
        self.line(algorithm.title, 17)
        self.line(words.say("not-reviewed"), 11, _WARNING)
        if algorithm.research_only:
            self.line(words.say("research-only"), 11, _WARNING)
        self.rule()
        for line in identity_lines(page.identity, words):
            self.line(line)
        self.rule()
        lines, remarks = self._said(page)
        said_above = (words.say("not-reviewed-sentence"), words.say("research-only"))
        remarks = [remark for remark in remarks if remark not in said_above]
        more, below = words.say("more", count="{count}"), 0.0 if page.picture is None else _LEAST_PICTURE
        self.lines(lines, _END + below + min(height_of(remarks), _MOST_REMARKS) + 20, more)
        self.rule()
        self.lines(remarks, _END + below + 10, more)
        if page.picture is not None:
            self.picture(page.picture)
        self._y = _END
        self.rule()
        self.line(f"{words.say('model', name=algorithm.name, version=algorithm.version)} · {page.made}", 8)

    def _said(self, page: Page) -> tuple[list[str], list[str]]:
        if page.outcome:
            said, remarks = told(page.outcome, page.findings, page.words)
            return [said], remarks
        return lines_of(page.findings, page.words), remarks_of(page.findings, page.found.__contains__, page.words)


def _wrapped(words: str, size: float) -> list[str]:
    return list(simpleSplit(drawable(words), NAME, size, _WIDTH - 2 * _MARGIN))


def height_of(sentences: Sequence[str]) -> float:
    """Height that paragraphs take."""
    return sum(len(_wrapped(sentence, _SIZE)) for sentence in sentences) * _SIZE * _LEADING


def printable_name(name: str, words: Words) -> str:
    """A person's name (PN, PS3.5 6.2.1): those of its groups that the page has the letters for.

    A name that is printed in other letters than its own could be another's: where no group can be, the page says so.
    """
    groups = [" ".join(part for part in group.split("^") if part) for group in name.split("=")]
    groups = [group for group in dict.fromkeys(groups) if group]
    printable = [group for group in groups if is_drawable(group)]
    return "  ·  ".join(printable) if printable or not groups else words.say("unprintable")


def identity_lines(source: Dataset, words: Words) -> list[str]:
    """Patient and study, as the source writes them."""
    name = printable_name(str(source.get("PatientName") or ""), words)
    born, when = (str(source.get(keyword) or "") for keyword in ("PatientBirthDate", "StudyDate"))
    patient = [name, str(source.get("PatientID") or ""), f"{words.say('born')} {_date(born)}" if born else ""]
    study = [_date(when), str(source.get("StudyDescription") or ""), str(source.get("AccessionNumber") or "")]
    return [
        f"{words.say('patient')}: {'  ·  '.join(filter(None, patient))}",
        f"{words.say('study')}: {'  ·  '.join(filter(None, study))}",
    ]


def _date(value: str) -> str:
    return f"{value[:4]}-{value[4:6]}-{value[6:8]}" if len(value) == 8 and value.isdigit() else value
