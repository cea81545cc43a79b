"""What the benchmarks of engines compute on: made volumes of a chest, and packages of networks without rules after them.

Imports neither torch nor an engine: every way, and every process of `make bench-gpu`, reads what stands here.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from dicomnode.imaging.geometry import VolumeGeometry
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.volume import Volume
from dicomnode.inference.package import Package, load, shipped_models_folder
from dicomnode.manifest import Manifest

Size = tuple[int, int, int]

_MODEL = "model.onnx"
_VOLUME = "volume.npy"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A network and a volume, on the disk of all processes that compute on it.

    Attributes
    ----------
    shape
        Of the volume.
    coarse, spacing_mm
        Shape of the network's grid before it is padded, and its spacing; its corners lie on the volume's.
    tile, overlap, multiple_of, labels
        Of the network; background counts. No tile: the network is that of ct-lung, with its own.
    widths
        Channels of a made network, scale by scale.
    """

    name: str
    shape: Size
    coarse: Size
    spacing_mm: float
    tile: Size | None = None
    overlap: float = 0.5
    labels: int = 3
    widths: tuple[int, ...] = ()

    @property
    def is_shipped(self) -> bool:
        """Whether the network is a shipped one, which has rules of its own."""
        return not self.widths

    def write(self, folder: Path) -> None:
        """Package and volume."""
        values = tomllib.loads((shipped_models_folder() / "ct-lung" / "model.toml").read_text("utf-8"))
        model = (shipped_models_folder() / "ct-lung" / _MODEL).read_bytes()
        if not self.is_shipped:
            from tests.benchmarks.networks import UNet  # needs the library onnx

            network = UNet(self.widths, self.labels)
            model = network.to_bytes()
            values["preprocess"].update(spacing_mm=[self.spacing_mm] * 3, multiple_of=[network.multiple] * 3)
            first = {name: one for name, one in values["segments"][0].items() if name != "laterality"}
            values["segments"] = [{**first, "number": n, "label": f"{n}"} for n in range(1, self.labels)]
        if values["preprocess"]["spacing_mm"] != [self.spacing_mm] * 3:
            raise ValueError("the network has another spacing")
        if self.tile is not None:
            values["network"].update(tile=list(self.tile), overlap=self.overlap)
        values["name"] = self.name
        values["preprocess"]["antialias"] = False
        values["postprocess"] = {"keep_largest_per_label": False, "fill_holes": False, "minimum_component_ml": 0.0}
        values["network"]["sha256"] = hashlib.sha256(model).hexdigest()
        place = folder / self.name
        place.mkdir(parents=True)
        (place / _MODEL).write_bytes(model)
        (place / "model.toml").write_text("\n".join(toml(values)), "utf-8")
        kept = (
            folder / f"{'-'.join(map(str, self.shape))}.npy"
        )  # one for all studies of a size: making it takes longest
        if not kept.exists():
            np.save(kept, phantom_values(self.shape, fine_spacing(self.shape, self.coarse, self.spacing_mm)))
        (place / _VOLUME).symlink_to(kept.resolve())

    def package(self, folder: Path) -> Package:
        """The package that was written."""
        return load(folder / self.name)

    def volume(self, folder: Path) -> Volume:
        """The volume that was written."""
        values = np.load(folder / self.name / _VOLUME)
        return volume_of(values, fine_spacing(self.shape, self.coarse, self.spacing_mm))


def fine_spacing(shape: Size, coarse: Size, spacing_mm: float) -> tuple[float, float, float]:
    """Spacing of a volume whose corners meet those of a coarse grid."""
    z, y, x = (spacing_mm * (few - 1) / (many - 1) for few, many in zip(coarse, shape, strict=True))
    return z, y, x


def phantom_values(shape: Size, spacing: tuple[float, float, float]) -> np.ndarray:
    """HU of a chest, drawn at a quarter of the size, with noise."""
    small = tuple(-(-size // 4) for size in shape)
    phantom = chest_phantom(np.random.default_rng(7), shape=small, spacing=tuple(4 * mm for mm in spacing))
    factors = [size / part for size, part in zip(shape, phantom.hu.shape, strict=True)]
    noise = np.random.default_rng(8).normal(0, 12, shape).astype(np.float32)
    values: np.ndarray = (ndimage.zoom(phantom.hu.astype(np.float32), factors, order=1) + noise).astype(np.int16)
    return values


def volume_of(values: np.ndarray, spacing: tuple[float, float, float]) -> Volume:
    """Values as an axial volume."""
    z, y, x = values.shape
    geometry = VolumeGeometry(
        origin=(0.0, 0.0, 0.0),
        row_direction=(1.0, 0.0, 0.0),
        column_direction=(0.0, 1.0, 0.0),
        slice_direction=(0.0, 0.0, 1.0),
        spacing=spacing,
        shape=(z, y, x),
        frame_of_reference_uid="1.2.3",
        order=tuple(range(z)),
    )
    return Volume(values=values, geometry=geometry, padding=None, sop_instance_uids=("1.2.3",) * z)


def phantom_volume(shape: Size, coarse: Size, spacing_mm: float) -> Volume:
    """A chest whose voxels are so large that the corners of both grids meet."""
    spacing = fine_spacing(shape, coarse, spacing_mm)
    return volume_of(phantom_values(shape, spacing), spacing)


def without_rules(manifest: Manifest) -> Manifest:
    """The manifest with nothing between logits and labels, and two neighbours instead of means on the way in."""
    rules = replace(
        manifest.postprocess, keep_largest_per_label=False, fill_holes=False, minimum_component_ml=0.0, gas=None
    )
    return replace(manifest, postprocess=rules, preprocess=replace(manifest.preprocess, antialias=False))


def with_rules_of(manifest: Manifest, shipped: Manifest) -> Manifest:
    """The manifest with the way in and the rules of another."""
    antialias = shipped.preprocess.antialias
    return replace(
        manifest, postprocess=shipped.postprocess, preprocess=replace(manifest.preprocess, antialias=antialias)
    )


def toml(values: Mapping[str, Any]) -> Iterator[str]:
    """Lines of a manifest: numbers, texts, lists, tables and lists of tables."""
    tables = {key: one for key, one in values.items() if isinstance(one, dict)}
    lists = {key: one for key, one in values.items() if isinstance(one, list) and one and isinstance(one[0], dict)}
    yield from (f"{key} = {_inline(one)}" for key, one in values.items() if key not in tables.keys() | lists.keys())
    for key, table in tables.items():
        yield f"[{key}]"
        yield from (f"{name} = {_inline(one)}" for name, one in table.items())
    for key, entries in lists.items():
        for entry in entries:
            yield f"[[{key}]]"
            yield from (f"{name} = {_inline(one)}" for name, one in entry.items())


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_inline(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
