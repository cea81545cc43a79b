"""Sources that are no axial stack, and documents in place of results, as OHIF shows them; judged by pixels and words.

The objects come from the node's own builders, with the phantom's labels in place of a network's: what is looked at is
what a viewer makes of them. `make test-viewer` sets up what this needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from io import BytesIO

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom import Dataset

from dicomnode.encoded import encode_part10
from tests import tools
from tests.neighbours import Orthanc
from tests.unit.results import material
from tests.viewer import delivered
from tests.viewer.browser import Browser
from tests.viewer.delivered import Drawing
from tests.viewer.ohif import Ohif, View
from tests.viewer.pictures import Fit, best_shift, likeness, lit, place_of
from tests.viewer.test_ohif import EXPLICIT, REPORT, ROOT, SEGMENTATION, Keep, keep
from tests.viewer.uncommon import SOURCES, Uncommon
from tests.viewer.web import ViewerSite

pytestmark = pytest.mark.timeout(300)
__all__ = ["keep"]
COLOURS = {segment.number: segment.colour for segment in material.findings_for().segments}
#: Code of an outcome → words of its document that a reader must see.
OUTCOMES = {
    "nothing-found": ("No finding: the model found none of what it looks for.", "Sought and not found"),
    "pixel-missing": ("Not processed", "Reason for not processing"),
}
NOT_REVIEWED = "AI result, not reviewed by a physician."


@pytest.fixture(scope="module")
def studies() -> Mapping[str, Uncommon]:
    return {kind: make() for kind, make in SOURCES.items()}


@pytest.fixture(scope="module")
def orthanc(studies: Mapping[str, Uncommon], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc with DICOMweb that holds every study and its results."""
    plugin = tools.require_file("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", setup="make test-viewer")
    archive = Orthanc(tmp_path_factory.mktemp("orthanc"), plugins=[plugin]).start()
    try:
        for study in studies.values():
            for image in study.images:
                archive.post("/instances", encode_part10(image, transfer_syntax_uid=EXPLICIT))
            for result in study.results():
                archive.post("/instances", b"".join(result.part10()))
        yield archive
    finally:
        archive.stop()


@pytest.fixture(scope="module")
def ohif(orthanc: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    """OHIF on that archive, in a browser."""
    files = tools.require_file(ROOT / "build/viewer/node_modules/@ohif/app/dist/index.html", setup="make test-viewer")
    address = f"http://127.0.0.1:{orthanc.http_port}"
    with ViewerSite(files.parent, address) as site, Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield Ohif(browser, site.address)


def grey(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """HU through the window that the phantom's images ask for."""
    return np.asarray(np.clip((plane + 600) / 1500 + 0.5, 0, 1))


def name_of(plane: Dataset) -> tuple[str, int]:
    """SOP Instance UID and frame."""
    return str(plane.SOPInstanceUID), int(plane.get("ReferencedFrameNumber") or 1)


def chosen(labels: NDArray[np.uint8]) -> list[int]:
    """Two planes whose masks are not those of their neighbours."""
    sizes = [min(int((plane == number).sum()) for number in COLOURS) for plane in labels]
    largest = int(np.argmax(sizes[1:-1])) + 1
    return [largest, next(index for index in range(1, len(sizes) - 1) if sizes[index] > sizes[largest] / 3)]


def assert_quiet(ohif: Ohif) -> None:
    """Nothing is at work, and the page reports no error."""
    assert ohif.spins() == []
    assert ohif.browser.complaints == []


def assert_plane_is_shown(view: View, study: Uncommon, index: int) -> None:
    """It is this plane's image, unflipped, and the segments lie on this plane's masks, to half a pixel of the image."""
    fit = Fit.of(view.picture, *study.labels.shape[1:])
    likenesses = [likeness(view.picture, grey(study.hu[one]), fit) for one in (index, index - 1, index + 1)]
    assert likenesses[0] > 0.98
    assert likenesses[0] > max(likenesses[1:])
    for number, colour in COLOURS.items():
        masks = study.labels[index - 1 : index + 2] == number
        assert not np.array_equal(masks[0], masks[1])
        assert not np.array_equal(masks[2], masks[1])
        place, dice = place_of(view.picture, masks, colour, fit)
        assert place == (1, 0, 0), f"segment {number} lies elsewhere: plane, down, right"
        assert dice > 0.95, f"segment {number}: {dice:.3f}"


@pytest.mark.parametrize("kind", list(SOURCES))
def test_segments_lie_on_the_pixels_of_their_plane(
    kind: str, studies: Mapping[str, Uncommon], ohif: Ohif, keep: Keep
) -> None:
    study = studies[kind]
    ohif.open(study.uid)
    ohif.show(SEGMENTATION, answer="Yes")
    for index in chosen(study.labels):
        view = keep(ohif.go_to_plane(*name_of(study.planes[index])), f"{kind}-segmentation-{index}")
        assert lit(view.picture) > 0.3
        assert_plane_is_shown(view, study, index)
        assert_quiet(ohif)


@pytest.mark.parametrize("kind", list(SOURCES))
def test_measurements_are_drawn_on_their_plane(
    kind: str, studies: Mapping[str, Uncommon], orthanc: Orthanc, ohif: Ohif, keep: Keep
) -> None:
    study = studies[kind]
    (report,) = delivered.objects(orthanc, study.uid, "SR")
    drawing = delivered.drawings(report)[1]  # the first one is at times left undrawn (viewers.md)
    index = int((study.labels == 2).sum(axis=(1, 2)).argmax())
    ohif.open(study.uid)
    ohif.show(REPORT, until=lambda _: ohif.has_arrows())
    view = keep(ohif.next_measurement(partial(tells, drawing=drawing)), f"{kind}-measurement")
    assert ohif.plane() == name_of(study.planes[index])
    fit = Fit.of(view.picture, *study.labels.shape[1:])
    assert likeness(view.picture, grey(study.hu[index]), fit) > 0.97
    x, y, share = best_shift(view.picture, drawing.points, fit)
    assert max(abs(x), abs(y)) <= 2, "half a pixel of the image is nearly five of the screen"
    assert share > 0.4
    assert_quiet(ohif)


def tells(view: View, drawing: Drawing) -> bool:
    """Whether the viewer says that it shows a finding, by its first values."""
    return any(all(line in text for line in drawing.lines[:3]) for text, _ in view.drawn)


@pytest.mark.parametrize("code", list(OUTCOMES))
def test_a_document_in_place_of_results_can_be_read(
    code: str, studies: Mapping[str, Uncommon], orthanc: Orthanc, ohif: Ohif, keep: Keep
) -> None:
    study = studies["tilted"]
    stored = orthanc.post("/instances", b"".join(study.outcome(code).part10()))["ID"]
    try:
        ohif.open(study.uid)
        view = keep(ohif.show("outcome (research", until=lambda view: NOT_REVIEWED in view.words), f"outcome-{code}")
        for words in OUTCOMES[code]:
            assert words in view.words
        assert lit(view.picture) > 0.005, "its text is there, light on dark"
        assert_quiet(ohif)
        assert lit(ohif.show("Phantom, chest").picture) > 0.3, "and the images are there after it"
    finally:
        orthanc.delete(f"/instances/{stored}")


def test_a_document_whose_image_has_no_name_is_seen_to_lose_the_page(
    studies: Mapping[str, Uncommon], orthanc: Orthanc, ohif: Ohif
) -> None:
    """The control: the same viewer shows nothing at all for a document that the standard allows and the node avoids."""
    study = studies["tilted"]
    spoiled = pydicom.dcmread(BytesIO(b"".join(study.outcome("nothing-found").part10())))
    for item in spoiled.ContentSequence[-2].ContentSequence:
        if item.ValueType == "IMAGE":
            del item.ConceptNameCodeSequence
    stored = delivered.store(orthanc, spoiled)
    try:
        ohif.open(study.uid)
        with pytest.raises(AssertionError, match="there is no viewport"):
            ohif.show("outcome (research", until=lambda view: NOT_REVIEWED in view.words)
        assert "Findings" not in ohif.browser.evaluate("document.body.innerText")
    finally:
        orthanc.delete(f"/instances/{stored}")
