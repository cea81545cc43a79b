"""The shipped lungs on series as they come: any order, feet first, other planes, compressed, bodies without lungs.

Through the node's own reading: Data Sets, decoder, geometry, network and rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode import coding
from dicomnode.imaging.decode import Decoder
from dicomnode.imaging.measure import acquisition_of, measure
from dicomnode.imaging.phantom import Phantom, chest_phantom
from dicomnode.imaging.phantom_series import ct_series
from dicomnode.imaging.volume import Volume, build
from dicomnode.inference import package as packages
from dicomnode.inference.onnx import OnnxEngine
from dicomnode.inference.package import Package
from dicomnode.inference.segment import look
from dicomnode.manifest import SeriesSummary

Labels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def package() -> Package:
    return packages.load(packages.shipped_models_folder() / "ct-lung")


@pytest.fixture(scope="module")
def engine(package: Package) -> OnnxEngine:
    return OnnxEngine.from_package(package, threads=1)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder(timeout_seconds=60.0, memory_bytes=2 << 30) as one:
        yield one


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return chest_phantom(np.random.default_rng(921), shape=(100, 112, 128), spacing=(3.0, 3.0, 3.0), diseases=())


def images(hu: npt.NDArray[np.int16], spacing: tuple[float, float, float]) -> list[Dataset]:
    """Axial slices from the feet to the head, as a scanner would send them."""
    found = []
    for image in ct_series(hu, spacing):
        image.file_meta = pydicom.dataset.FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        found.append(image)
    return found


def feet_first(hu: npt.NDArray[np.int16], spacing: tuple[float, float, float]) -> list[Dataset]:
    """The same body lying the other way round: rows run toward Right, columns toward Posterior, feet at the gantry."""
    found = images(hu[:, :, ::-1], spacing)
    for image in found:
        x, y, z = image.ImagePositionPatient
        image.PatientPosition = "FFS"
        image.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [-float(x), y, z]
    return found[::-1]


def dice(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    return 2.0 * float((first & second).sum()) / float(first.sum() + second.sum())


def found_in(datasets: list[Dataset], package: Package, engine: OnnxEngine, decoder: Decoder) -> tuple[Volume, Labels]:
    volume = build(datasets, decoder=decoder)
    return volume, look(volume, package.manifest, engine).labels


def test_right_is_right_in_any_order_and_feet_first(
    package: Package, engine: OnnxEngine, decoder: Decoder, phantom: Phantom
) -> None:
    series = images(phantom.hu, phantom.spacing)
    _, plain = found_in(series, package, engine, decoder)
    for label in (1, 2):
        assert dice(plain == label, phantom.labels == label) >= 0.95
    _, backwards = found_in(series[::-1], package, engine, decoder)
    assert np.array_equal(plain, backwards)
    shuffled = [series[index] for index in np.random.default_rng(4).permutation(len(series))]
    assert np.array_equal(plain, found_in(shuffled, package, engine, decoder)[1])
    volume, turned = found_in(feet_first(phantom.hu, phantom.spacing), package, engine, decoder)
    mine = turned[:, :, ::-1] if volume.geometry.slice_direction[2] > 0 else turned[::-1, :, ::-1]
    assert np.array_equal(plain, mine)


def test_a_header_that_swaps_the_sides_swaps_the_lungs(
    package: Package, engine: OnnxEngine, decoder: Decoder, phantom: Phantom
) -> None:
    """The geometry decides, not the look: a mirrored body is a situs that nobody has, but its right is its right."""
    _, labels = found_in(images(phantom.hu[:, :, ::-1], phantom.spacing), package, engine, decoder)
    middle = labels.shape[2] / 2
    for label, side in ((1, -1), (2, 1)):
        where = np.argwhere(labels == label)
        assert len(where) == 0 or np.sign(where[:, 2].mean() - middle) == side


def test_half_covered_lungs_are_found_and_called_cut(
    package: Package, engine: OnnxEngine, decoder: Decoder, phantom: Phantom
) -> None:
    for part, end in ((slice(None, 50), "superior"), (slice(50, None), "inferior")):
        volume, labels = found_in(images(phantom.hu[part], phantom.spacing), package, engine, decoder)
        for label in (1, 2):
            assert dice(labels == label, phantom.labels[part] == label) >= 0.93
        regions, _ = measure(
            volume.values, labels, volume.padding, volume.geometry, package.manifest.segments,
            density=package.manifest.density, acquisition=acquisition_of(images(phantom.hu[:1], phantom.spacing)[0]),
        )  # fmt: skip
        assert all(end in region.truncated for region in regions)


def test_a_localizer_is_never_looked_at(package: Package) -> None:
    for image_type in (("ORIGINAL", "PRIMARY", "LOCALIZER"), ("DERIVED", "SECONDARY", "TOPOGRAM")):
        summary = SeriesSummary(
            series_key="k", modality="CT", sop_class_uid="1.2.840.10008.5.1.4.1.1.2", image_type=image_type, slices=400
        )
        assert package.manifest.input.judge(summary) == ("no-suitable-series",)


def read(folder: Path) -> list[Dataset]:
    found = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if not path.name.endswith(".gz")]
    for number, image in enumerate(found):
        image.SOPInstanceUID = image.get("SOPInstanceUID") or f"2.25.{number + 1}"  # one set came without
    return [image for image in found if image.Modality == "CT"]


def test_a_compressed_slab_below_the_lungs(
    package: Package, engine: OnnxEngine, decoder: Decoder, shared_data: Callable[[str], Path]
) -> None:
    """JPEG 2000, 40 mm of the upper abdomen with the last slivers of the bases: at most those are found, on their side."""
    volume, labels = found_in(read(shared_data("ct_body_siemens_j2k20_seg")), package, engine, decoder)
    middle, ml = labels.shape[2] / 2, volume.geometry.voxel_volume_ml
    assert np.count_nonzero(labels) * ml < 200
    assert (volume.values[labels > 0] < -950).sum() * ml < 5  # gas of the bowel
    for label, side in ((1, -1), (2, 1)):
        where = np.argwhere(labels == label)
        assert len(where) == 0 or np.sign(where[:, 2].mean() - middle) == side


@pytest.mark.slow
def test_numbers_agree_with_another_computation_on_the_same_masks(
    package: Package, engine: OnnxEngine, decoder: Decoder, shared_data: Callable[[str], Path]
) -> None:
    """To 0.1 %: by sorting and by linear percentiles, straight from the files' stored values."""
    datasets = [image for image in read(shared_data("ct_thorax_siemens105_rtstruct")) if "PixelData" in image]
    volume, labels = found_in(datasets, package, engine, decoder)
    acquisition = acquisition_of(datasets[0])
    regions, _ = measure(
        volume.values, labels, volume.padding, volume.geometry, package.manifest.segments,
        density=package.manifest.density, acquisition=acquisition,
    )  # fmt: skip
    by_height = sorted(datasets, key=lambda image: float(image.ImagePositionPatient[2]))
    if volume.geometry.slice_direction[2] < 0 or volume.geometry.origin[2] > float(
        by_height[0].ImagePositionPatient[2]
    ):
        by_height.reverse()
    hu = np.stack(
        [image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in by_height]
    )
    gap = abs(float(by_height[1].ImagePositionPatient[2]) - float(by_height[0].ImagePositionPatient[2]))
    ml = gap * float(by_height[0].PixelSpacing[0]) * float(by_height[0].PixelSpacing[1]) / 1000
    assert [region.label for region in regions] == ["Right lung", "Left lung", "Both lungs"]
    for region in regions:
        inside = np.sort(hu[np.isin(labels, region.segments)])
        wanted = {
            coding.VOLUME: len(inside) * ml,
            coding.MEAN_LUNG_DENSITY: float(inside.mean()),
            coding.LAA_950: 100.0 * float(np.searchsorted(inside, -950.0)) / len(inside),
            coding.PERC15: float(np.percentile(inside, 15)),
        }
        found = {item.concept: item.value for item in region.measurements}
        assert found.keys() == wanted.keys()
        for concept, value in wanted.items():
            assert found[concept] == pytest.approx(value, rel=1e-3)
