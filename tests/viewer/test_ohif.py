"""What radiologists see: a study goes through the node, and its results are looked at in OHIF, by pixels.

`make test-viewer` sets up what this needs. Every screenshot that is judged lies in build/viewer/pictures afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset

from dicomnode.encoded import encode_part10
from dicomnode.imaging.phantom import Phantom, chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from dicomnode.inference.package import load
from dicomnode.study import WorkState
from tests import tools
from tests.journey.running_node import RunningNode, destination
from tests.neighbours import Orthanc, dcmsend
from tests.viewer import delivered
from tests.viewer.browser import Browser
from tests.viewer.delivered import Drawing
from tests.viewer.ohif import Ohif, View
from tests.viewer.pictures import Fit, best_shift, covered, likeness, lit, nearest_line, of_hue
from tests.viewer.web import ViewerSite

pytestmark = pytest.mark.timeout(900)
ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "build" / "viewer" / "pictures"
EXPLICIT = "1.2.840.10008.1.2.1"
SEGMENTATION, REPORT, KEY_IMAGE = "segmentation (research", "measurements (research", "key image (research"
Keep = Callable[[View, str], View]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A study whose results the node delivered into an archive."""

    orthanc: Orthanc
    phantom: Phantom
    images: dict[int, Dataset]
    segmentation: Dataset
    report: Dataset
    key_image: Dataset

    @property
    def uid(self) -> str:
        """Study Instance UID."""
        return str(self.report.StudyInstanceUID)

    def grey(self, instance_number: int) -> NDArray[np.float64]:
        """An image through the window that it asks for."""
        image = self.images[instance_number]
        hu = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        share = (hu - float(image.WindowCenter)) / float(image.WindowWidth) + 0.5
        return np.asarray(np.clip(share, 0, 1))

    def image_with_most(self) -> int:
        """Instance Number of the image on which the two segments together are largest, both being there."""
        sizes = {}
        for number, image in self.images.items():
            masks = delivered.masks_on(self.segmentation, image)
            if len(masks) == 2:
                sizes[number] = min(int(mask.sum()) for mask in masks.values())
        return max(sizes, key=lambda number: sizes[number])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The phantom of the demo, sent to a node that delivers into an Orthanc with DICOMweb."""
    plugin = tools.require_file("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", setup="make test-viewer")
    folder = tmp_path_factory.mktemp("viewer")
    phantom = chest_phantom(np.random.default_rng(7))
    paths = []
    for index, image in enumerate(ct_series(phantom.hu, phantom.spacing)):
        paths.append(folder / f"{index:03}.dcm")
        paths[-1].write_bytes(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    orthanc = Orthanc(folder / "orthanc", plugins=[plugin]).start()
    try:
        orthanc.upload(paths)
        settings = '[models]\nengine = "onnxruntime"\n' + destination("orthanc", "ORTHANC", orthanc.dicom_port)
        with RunningNode(folder / "node", settings) as node:
            assert dcmsend(node.port, *paths, called="DICOMNODE").returncode == 0
            (work,) = node.wait_for_work(240)
            assert work.state is WorkState.DONE, node.log()
        uid = PhantomPatient().uid("study")
        (segmentation,), (report,), (key_image,) = (
            delivered.objects(orthanc, uid, modality) for modality in ("SEG", "SR", "OT")
        )
        yield Shown(
            orthanc=orthanc,
            phantom=phantom,
            images={int(image.InstanceNumber): image for image in delivered.objects(orthanc, uid, "CT")},
            segmentation=segmentation,
            report=report,
            key_image=key_image,
        )
    finally:
        orthanc.stop()


@pytest.fixture(scope="module")
def ohif(study: Shown, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    """OHIF on that archive, in a browser."""
    files = tools.require_file(ROOT / "build/viewer/node_modules/@ohif/app/dist/index.html", setup="make test-viewer")
    address = f"http://127.0.0.1:{study.orthanc.http_port}"
    with ViewerSite(files.parent, address) as site, Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield Ohif(browser, site.address)


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Keep:
    """Function that writes a screenshot for people to look at, and hands the view on."""
    PICTURES.mkdir(parents=True, exist_ok=True)

    def write(view: View, name: str) -> View:
        Image.fromarray(view.page).save(PICTURES / f"{name}.png", optimize=True)
        return view

    return write


@pytest.fixture
def spoil(study: Shown) -> Iterator[Callable[[Dataset], None]]:
    """Function that puts a spoiled object into the study; it is taken out again."""
    stored: list[str] = []
    yield lambda dataset: stored.append(delivered.store(study.orthanc, dataset))
    for name in stored:
        study.orthanc.delete(f"/instances/{name}")


def colours() -> dict[int, tuple[int, int, int]]:
    """Colours of the model's segments."""
    manifest = load(ROOT / "models" / "ct-lung").manifest
    return {segment.number: segment.colour for segment in manifest.segments}


def assert_in_order(view: View, ohif: Ohif) -> None:
    """Not black, nothing at work, no error in the page."""
    assert lit(view.picture) > 0.3
    assert ohif.spins() == []
    assert ohif.browser.complaints == []
    assert "Something went wrong" not in view.words


def assert_segments_are_drawn(view: View, study: Shown, wanted: dict[int, tuple[int, int, int]]) -> None:
    """Each segment covers its own mask in its own colour, and nothing else has that colour."""
    image = study.images[view.instance_number]
    fit = Fit.of(view.picture, image.Rows, image.Columns)
    masks = delivered.masks_on(study.segmentation, image)
    assert set(masks) == set(wanted)
    for number, mask in masks.items():
        inside, outside = covered(view.picture, mask, wanted[number], fit)
        assert inside > 0.98, f"segment {number}: {inside:.3f} of it has its colour"
        assert outside < 0.005, f"segment {number}: its colour covers {outside:.3f} of the rest"


def test_the_images_lie_where_the_tests_expect_them(study: Shown, ohif: Ohif, keep: Keep) -> None:
    ohif.open(study.uid)
    number = study.image_with_most()
    view = keep(ohif.go_to_image(number), "images")
    grey = study.grey(number)
    fit = Fit.of(view.picture, *grey.shape)

    assert view.instance_number == number
    assert likeness(view.picture, grey, fit) > 0.98
    for axis in (0, 1):
        assert likeness(view.picture, np.flip(grey, axis), fit) < 0.95
        for shift in (-3, 3):
            moved = np.roll(view.picture, shift, axis)
            assert likeness(moved, grey, fit) < likeness(view.picture, grey, fit) - 0.002
    for colour in colours().values():
        assert of_hue(view.picture, colour)[4:-4, 4:-4].mean() < 0.001, "no segment is drawn yet"
    assert ohif.marker("left") == "R"
    assert_in_order(view, ohif)


def test_each_segment_is_drawn_in_its_colour_at_its_place(study: Shown, ohif: Ohif, keep: Keep) -> None:
    ohif.open(study.uid)
    ohif.show(SEGMENTATION, answer="Yes")
    number = study.image_with_most()
    view = keep(ohif.go_to_image(number), "segmentation")

    assert_segments_are_drawn(view, study, colours())
    assert_in_order(view, ohif)
    # Left is left: by the phantom's own anatomy, which no object of ours had a part in.
    truth = study.phantom.labels[number - 1]
    fit = Fit.of(view.picture, *truth.shape)
    for label in (1, 2):
        seen, anatomy = of_hue(view.picture, colours()[label]), fit.enlarge(truth == label, view.picture)[0]
        assert 2 * (seen & anatomy).sum() / (seen.sum() + anatomy.sum()) > 0.93
    assert np.nonzero(of_hue(view.picture, colours()[1]))[1].mean() < view.picture.shape[1] / 2, "the right lung"

    view = keep(ohif.open_panel("panelSegmentation"), "segmentation-panel")
    for name in ("Right lung", "Left lung"):
        assert name in view.words
    assert_in_order(view, ohif)


def test_every_measurement_is_drawn_on_its_key_slice(study: Shown, ohif: Ohif, keep: Keep) -> None:
    ohif.open(study.uid)
    wanted = delivered.drawings(study.report)
    assert [(drawing.name, drawing.graphic_type) for drawing in wanted] == [
        ("Right lung", "POLYLINE"),
        ("Left lung", "POLYLINE"),
        ("Both lungs", "POINT"),
    ]

    for index, drawing in enumerate(wanted):
        told = partial(tells, drawing=drawing, study=study)
        view = ohif.next_measurement(told) if index else ohif.show(REPORT, until=told)
        keep(view, f"measurement-{index + 1}")
        assert_is_drawn(view, study, drawing)
        assert_in_order(view, ohif)


def tells(view: View, drawing: Drawing, study: Shown) -> bool:
    """Whether the viewer says that it shows a finding on the image that it belongs to."""
    image = study.images.get(view.instance_number)
    there = image is not None and image.SOPInstanceUID == drawing.sop_instance_uid
    return there and any(all(line in text for line in drawing.lines) for text, _ in view.drawn)


def assert_is_drawn(view: View, study: Shown, drawing: Drawing) -> None:
    """The drawing is on its image, to the pixel, and all its values can be read."""
    image = study.images[view.instance_number]
    fit = Fit.of(view.picture, image.Rows, image.Columns)
    assert image.SOPInstanceUID == drawing.sop_instance_uid
    assert likeness(view.picture, study.grey(view.instance_number), fit) > 0.97
    if drawing.graphic_type == "POINT":
        assert nearest_line(view.picture, drawing.points[0], fit) < 3
    else:
        x, y, share = best_shift(view.picture, drawing.points, fit)
        assert max(abs(x), abs(y)) <= 1, "half a pixel of the image is nearly two of the screen"
        assert share > 0.4, "a dashed line"
    (text,) = (text for text, _ in view.drawn if all(line in text for line in drawing.lines))
    assert not any(one.meets(other) for (_, one), (_, other) in combinations(view.drawn, 2)), "texts on each other"
    assert len(drawing.lines) >= 4, text


def test_the_key_image_is_shown(study: Shown, ohif: Ohif, keep: Keep) -> None:
    ohif.open(study.uid)
    view = keep(
        ohif.show(KEY_IMAGE, until=lambda view: "Phantom, chest" not in view.words.split("key image")[-1]), "key-image"
    )
    pixels = study.key_image.pixel_array
    fit = Fit.of(view.picture, *pixels.shape[:2])

    assert likeness(view.picture, pixels, fit) > 0.95
    for axis in (0, 1):
        assert likeness(view.picture, np.flip(pixels, axis), fit) < 0.8
    for colour in colours().values():
        seen, wanted = of_hue(view.picture, colour), of_hue(fit.enlarge(pixels, view.picture)[0], colour)
        assert 2 * (seen & wanted).sum() / (seen.sum() + wanted.sum()) > 0.9
    assert_in_order(view, ohif)


def test_no_result_makes_the_viewport_black_or_a_panel_spin(study: Shown, ohif: Ohif) -> None:
    ohif.open(study.uid)
    series = ohif.series()
    assert len(series) == 5, series  # the key slices, a KO, are listed and cannot be opened
    for words in (KEY_IMAGE, REPORT, SEGMENTATION, "Phantom, chest", REPORT, KEY_IMAGE):
        assert_in_order(ohif.show(words), ohif)


def test_a_report_with_a_finding_that_has_no_contour_is_seen_to_be_black(
    study: Shown, ohif: Ohif, keep: Keep, spoil: Callable[[Dataset], None]
) -> None:
    """The control: the same viewer goes black over a report that the node would not send, and the check says so."""
    spoil(delivered.without_drawing(study.report, "Both lungs"))
    ohif.open(study.uid)
    view = keep(ohif.show("Spoiled report", until=lambda view: lit(view.picture) < 0.1), "control-black")

    with pytest.raises(AssertionError):
        assert_in_order(view, ohif)


def test_swapped_colours_are_seen(study: Shown, ohif: Ohif, keep: Keep, spoil: Callable[[Dataset], None]) -> None:
    """The control: a segmentation whose colours are swapped fails the check that the node's own one passes."""
    spoil(delivered.with_swapped_colours(study.segmentation))
    ohif.open(study.uid)
    ohif.show("Spoiled segmentation", answer="Yes")
    view = keep(ohif.go_to_image(study.image_with_most()), "control-swapped")

    with pytest.raises(AssertionError, match="has its colour"):
        assert_segments_are_drawn(view, study, colours())
    assert_segments_are_drawn(view, study, {1: colours()[2], 2: colours()[1]})
