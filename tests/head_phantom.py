"""A head that nobody has: skin, nose, eyes, ears, lips, chin, neck, skull, cavities and brain, as CT and as MR series.

Built of simple bodies in millimetres (left, front, up; the origin between the brain's halves at the level of the
thalamus, +17 mm before its middle), sampled in any pose on any planes. Its brain is no ellipsoid: what is looked for
must not be what it is made of.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID
from scipy import ndimage

from dicomnode.deidentification import faces
from dicomnode.deidentification.faces import SeriesOfHead
from dicomnode.deidentification.heads import Head
from dicomnode.imaging.balloon import Grid
from dicomnode.imaging.brain import Brain, find_brain
from dicomnode.imaging.decode import Decoder

Array = npt.NDArray[Any]

STEP = 2.0
LOW = np.array([-136.0, -136.0, -236.0])  # left, front, up
SHAPE = (137, 129, 174)
AIR, FAT, MUSCLE, BONE, CSF, GREY, WHITE, EYE, LENS, PLASTIC, CORD = range(11)
#: Values by tissue: HU; T1 and T2 as scanners show them.
CONTRASTS = {
    "ct": (-1000, -90, 55, 700, 8, 38, 28, 12, 60, -250, 32),
    "t1": (6, 420, 180, 25, 60, 200, 290, 80, 160, 6, 280),
    "t2": (6, 300, 110, 25, 620, 330, 250, 600, 120, 6, 250),
    "flair": (6, 230, 120, 25, 30, 260, 220, 60, 130, 6, 220),
}
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def _axes() -> tuple[Array, Array, Array]:
    return tuple(  # type: ignore[return-value]
        np.arange(size, dtype=np.float32).reshape([-1 if axis == at else 1 for axis in range(3)]) * STEP + LOW[at]
        for at, size in enumerate(SHAPE)
    )


class _Bodies:
    """Masks of simple bodies on the template's grid."""

    def __init__(self) -> None:
        self.x, self.y, self.z = _axes()

    def ellipsoid(self, centre: Sequence[float], half: Sequence[float], power: float = 2.0) -> Array:
        parts = [
            np.abs((axis - middle) / size) ** power
            for axis, middle, size in zip((self.x, self.y, self.z), centre, half, strict=True)
        ]
        return parts[0] + parts[1] + parts[2] <= 1

    def both(self, centre: Sequence[float], half: Sequence[float]) -> Array:
        x, y, z = centre
        return self.ellipsoid((x, y, z), half) | self.ellipsoid((-x, y, z), half)

    def rod(self, start: Sequence[float], end: Sequence[float], radius: float) -> Array:
        a, b = np.array(start, float), np.array(end, float)
        along = b - a
        place = ((self.x - a[0]) * along[0] + (self.y - a[1]) * along[1] + (self.z - a[2]) * along[2]) / (along @ along)
        place = np.clip(place, 0, 1)
        away = [
            axis - (start + place * step) for axis, start, step in zip((self.x, self.y, self.z), a, along, strict=True)
        ]
        return away[0] ** 2 + away[1] ** 2 + away[2] ** 2 <= radius**2

    def rods(self, start: Sequence[float], end: Sequence[float], radius: float) -> Array:
        return self.rod(start, end, radius) | self.rod((-start[0], *start[1:]), (-end[0], *end[1:]), radius)


@functools.cache
def template() -> Array:
    """Tissues, (left, front, up) on the template's grid."""
    one = _Bodies()
    y, z = one.y, one.z
    upper = one.ellipsoid((0, -17, 6), (67, 86, 70), 2.3)
    floor = np.where(y > 12, -24 + 0.12 * (y - 12), -30.0)
    cerebrum = upper & (z > floor)
    brain = cerebrum | one.both((44, -2, -26), (22, 42, 21)) | one.ellipsoid((0, -60, -36), (50, 30, 26))
    brain |= one.rod((0, -24, -12), (0, -38, -66), 13)
    cord = one.rod((0, -38, -60), (0, -44, -235), 6)
    canal = one.rod((0, -38, -60), (0, -44, -235), 10)
    away = ndimage.distance_transform_edt(~brain) * STEP
    tissue = np.zeros(SHAPE, np.uint8)
    tissue[_skin(one, away)] = FAT
    tissue[_flesh(one, away)] = MUSCLE
    bone = (away > 3) & (away <= 9) & (z > -70)
    bone |= _bones(one)
    tissue[bone & (tissue > 0)] = BONE
    tissue[(canal | (away <= 3)) & (tissue > 0)] = CSF
    tissue[cord] = CORD
    eyes = one.both((32, 62, -36), (12, 12, 12))
    tissue[one.both((32, 52, -36), (18, 22, 17)) & (away > 6) & (y < 70)] = FAT
    tissue[one.both((32, 62, -36), (14.5, 14.5, 14.5)) & (tissue == AIR)] = FAT
    tissue[eyes] = EYE
    tissue[one.both((32, 71, -36), (5, 2, 5))] = LENS
    tissue[_cavities(one) & (away > 4)] = AIR
    tissue[brain] = GREY
    deep = brain & (ndimage.distance_transform_edt(brain) * STEP > 6)
    tissue[deep] = WHITE
    tissue[deep & one.both((12, -20, 12), (8, 32, 12))] = CSF
    return tissue


def _skin(one: _Bodies, away: Array) -> Array:
    x, y, z = one.x, one.y, one.z
    skin = (away <= 15) & (z > -75)
    skin |= one.ellipsoid((0, 32, -60), (63, 52, 62))
    skin |= one.ellipsoid((0, 66, -112), (30, 24, 20)) | one.rods((50, -6, -80), (18, 70, -114), 16)
    skin |= one.both((50, 46, -54), (20, 26, 18)) | one.both((26, 72, -12), (24, 14, 11))
    down = np.clip((-28 - z) / 36, 0, 1)
    nose = (z < -28) & (z > -66) & (y > 60) & (y < 84 + 26 * down)
    skin |= nose & (np.abs(x) < (5 + 12 * down) * np.clip((112 - y) / 30, 0.25, 1))
    skin |= one.ellipsoid((0, 85, -84), (24, 8, 5)) | one.ellipsoid((0, 84, -94), (22, 8, 5))
    neck = (x / 60) ** 2 + ((y + 38) / 62) ** 2 <= 1
    skin |= neck & (z < -50)
    ear = one.both((86, -26, -28), (6, 17, 31)) & ~one.both((90, -24, -28), (5, 9, 18))
    skin |= ear | one.rods((70, -22, -30), (84, -22, -30), 9)
    return skin


def _flesh(one: _Bodies, away: Array) -> Array:
    flesh = one.ellipsoid((0, 30, -60), (57, 47, 56)) | one.rods((50, -6, -80), (18, 68, -112), 11)
    neck = (one.x / 54) ** 2 + ((one.y + 38) / 56) ** 2 <= 1
    flesh |= neck & (one.z < -55)
    flesh |= one.both((66, 20, -20), (6, 30, 30)) & (away > 9) & (away < 15)
    return flesh


def _bones(one: _Bodies) -> Array:
    x, y, z = one.x, one.y, one.z
    bones = one.rods((48, -4, -55), (48, -6, -82), 6) | one.rods((48, -6, -82), (14, 68, -112), 7)
    teeth = (((x / 28) ** 2 + ((y - 50) / 32) ** 2 <= 1) & ((x / 20) ** 2 + ((y - 48) / 24) ** 2 > 1)) & (y > 40)
    bones |= teeth & (z < -78) & (z > -100)
    bones |= one.both((30, 50, -52), (17, 20, 20)) & ~one.both((30, 50, -52), (14, 17, 17))
    bones |= one.rods((54, 40, -48), (66, -10, -40), 4)
    body = (x / 14) ** 2 + ((y + 22) / 10) ** 2 <= 1
    arch = ((x / 22) ** 2 + ((y + 48) / 20) ** 2 <= 1) & ((x / 14) ** 2 + ((y + 42) / 13) ** 2 > 1)
    bones |= (body | arch) & (z < -72) & (np.mod(z, 18) > 4)
    bones |= one.both((60, -38, -52), (10, 12, 20))
    return bones


def _cavities(one: _Bodies) -> Array:
    holes = one.ellipsoid((0, 54, -48), (13, 34, 20)) & (np.abs(one.x) > 1.5)
    holes |= one.both((30, 50, -52), (13, 16, 16)) | one.ellipsoid((0, 56, -90), (17, 24, 5))
    holes |= one.rod((0, 6, -55), (0, -4, -235), 9) | one.both((9, 76, -10), (8, 4, 8))
    holes |= one.ellipsoid((0, 20, -40), (12, 10, 7)) | one.rods((48, -22, -30), (95, -22, -30), 3)
    holes |= one.both((62, -36, -46), (5, 6, 9)) & (np.mod(one.y + one.z, 5) > 2)
    return holes


BRAIN_TISSUES = (GREY, WHITE, CSF)


def face_surface() -> Array:
    """Points of the skin between brow and chin, in front of the ears, and of the ears, (n, 3), left, front, up."""
    inside = ndimage.binary_fill_holes(ndimage.binary_closing(template() > AIR, iterations=2))
    edge = inside & ~ndimage.binary_erosion(inside)
    points = np.argwhere(edge) * STEP + LOW
    left, front, up = points.T
    face = (front > 25) & (up < -8) & (up > -125)
    ears = (np.abs(left) > 83) & (up < 10) & (up > -70) & (front > -60) & (front < 5)
    return points[face | ears]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How the head is held: degrees of nodding (chin down is above 0), tilt to the left shoulder, turn to the left; mm."""

    nod: float = 0.0
    tilt: float = 0.0
    turn: float = 0.0
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def matrix(self) -> Array:
        """From the head (left, front, up) to the patient (LPS)."""
        nod, tilt, turn = np.radians([self.nod, self.tilt, self.turn])
        about_left = np.array([[1, 0, 0], [0, np.cos(nod), np.sin(nod)], [0, -np.sin(nod), np.cos(nod)]])
        about_front = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
        about_up = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
        return np.diag([1.0, -1.0, 1.0]) @ about_up @ about_front @ about_left

    def to_patient(self, points: Array) -> Array:
        return points @ self.matrix().T + np.array(self.shift)

    def to_head(self, points: Array) -> Array:
        return (points - np.array(self.shift)) @ self.matrix()


ORIENTATIONS = {
    "axial": ((1, 0, 0), (0, 1, 0)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
}


@dataclass(frozen=True, kw_only=True)
class Scan:
    """Planes on which a head is sampled.

    Attributes
    ----------
    view
        Of `ORIENTATIONS`, or row and column direction (LPS).
    low, high
        First and last slice along the slice direction, mm from the centre.
    drift
        How far each slice lies below the one before, of the step: a tilted gantry.
    """

    contrast: str = "ct"
    view: Any = "axial"
    pixel: float = 2.0
    step: float = 4.0
    size: tuple[int, int] = (132, 120)
    low: float = -150.0
    high: float = 117.0
    pose: Pose = field(default_factory=Pose)
    centre: tuple[float, float, float] = (0.0, 10.0, -15.0)
    noise: float = 0.02
    drift: float = 0.0
    beside: tuple[str, ...] = ()
    seed: int = 1

    @property
    def is_ct(self) -> bool:
        return self.contrast == "ct"

    def directions(self) -> tuple[Array, Array, Array]:
        right, down = ORIENTATIONS[self.view] if isinstance(self.view, str) else self.view
        right, down = (np.array(one, float) / np.linalg.norm(one) for one in (right, down))
        return right, down, np.cross(right, down)

    def planes(self) -> list[Array]:
        """Centre of the first pixel of each slice, mm."""
        right, down, through = self.directions()
        middle = np.array(self.centre)
        corner = -(right * (self.size[1] - 1) + down * (self.size[0] - 1)) * self.pixel / 2
        return [
            middle + corner + through * height + down * self.drift * height
            for height in np.arange(self.low, self.high + 0.1, self.step)
        ]

    def points(self, origin: Array) -> Array:
        right, down, _ = self.directions()
        rows, columns = (np.arange(count) * self.pixel for count in self.size)
        return origin + rows[:, None, None] * down + columns[:, None] * right

    def tissue(self) -> Array:
        """Tissue of every pixel, (slices, rows, columns)."""
        return np.stack([_sampled(template(), self.pose.to_head(self.points(origin)), 0) for origin in self.planes()])

    def values(self) -> Array:
        """What a scanner measures, (slices, rows, columns)."""
        table = np.array(CONTRASTS[self.contrast], np.float32)
        bodies = table[template()]
        rng = np.random.default_rng(self.seed)
        found = []
        for origin in self.planes():
            points = self.points(origin)
            plane = _sampled(bodies, self.pose.to_head(points), 1, table[AIR])
            for what in self.beside:
                plane = np.maximum(plane, _BESIDE[what](points, table))
            found.append(plane)
        values = np.stack(found)
        if self.is_ct:
            return values + rng.normal(0, self.noise * 400, values.shape)
        real, other = (rng.normal(0, self.noise * 300, values.shape) for _ in range(2))
        return np.hypot(values * _shading(self) + real, other)

    def series(self, **attributes: Any) -> list[Dataset]:
        """Images of one series (PS3.3 C.8.2.1, C.8.3.1), native and little endian."""
        values = self.values()
        right, down, _ = self.directions()
        found = []
        for number, (origin, plane) in enumerate(zip(self.planes(), values, strict=True), start=1):
            ds = _header(self.is_ct, number)
            ds.ImagePositionPatient = [f"{one:.4f}" for one in origin]
            ds.ImageOrientationPatient = [f"{one:.6f}" for one in (*right, *down)]
            ds.PixelSpacing, ds.SliceThickness = [str(self.pixel)] * 2, str(self.step)
            ds.Rows, ds.Columns = self.size
            stored = np.rint(plane + 1024) if self.is_ct else np.rint(plane)
            ds.PixelData = np.clip(stored, 0, 4095).astype("<u2").tobytes()
            ds["PixelData"].VR = "OW"
            for keyword, value in attributes.items():
                setattr(ds, keyword, value)
            found.append(ds)
        return found


@contextmanager
def remembered_brains() -> Iterator[None]:
    """What was found in a volume is not looked for again in the same volume: tests of formats give it time and again."""
    found: dict[bytes, Brain] = {}

    def find(grid: Grid, *, is_ct: bool) -> Brain:
        said = repr((grid.values.shape, grid.values.dtype, grid.affine.dtype, grid.beyond, is_ct)).encode()
        key = sha256(b"".join((said, grid.affine.tobytes(), grid.values.tobytes()))).digest()
        if key not in found:
            found[key] = find_brain(grid, is_ct=is_ct)
        return found[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces, "find_brain", find)
        yield


def _sampled(array: Array, points: Array, order: int, outside: float = 0.0) -> Array:
    places = np.moveaxis((points - LOW) / STEP, -1, 0)
    return ndimage.map_coordinates(array, places, order=order, mode="constant", cval=outside, prefilter=False)


def _shading(scan: Scan) -> Array:
    """A receive coil that sees its near side brighter."""
    slices, rows, columns = len(scan.planes()), *scan.size
    return (1 + 0.25 * np.linspace(-1, 1, columns) * np.ones((slices, rows, 1))).astype(np.float32)


def _headrest(points: Array, table: Array) -> Array:
    x, y, z = np.moveaxis(points, -1, 0)
    ring = np.hypot(x, y - 15)
    shell = (ring > 112) & (ring < 118) & (y > 40) & (z > -90)
    return np.where(shell, np.float32(table[PLASTIC] + 350 if table[AIR] < 0 else table[AIR]), np.float32(table[AIR]))


def _hand(points: Array, table: Array) -> Array:
    """A hand beside the cheek."""
    x, y, z = np.moveaxis(points, -1, 0)
    flesh = ((x - 98) / 12) ** 2 + ((y + 40) / 40) ** 2 + ((z + 70) / 45) ** 2 <= 1
    bone = ((x - 98) / 5) ** 2 + ((y + 40) / 34) ** 2 + ((z + 70) / 6) ** 2 <= 1
    return np.where(bone, table[BONE], np.where(flesh, table[MUSCLE], table[AIR])).astype(np.float32)


def _arms(points: Array, table: Array) -> Array:
    """Two arms beside and above the head."""
    x, y, z = np.moveaxis(points, -1, 0)
    away = np.hypot(np.abs(x) - 128 + np.clip(z - 60, 0, 200) * 0.4, y + 10)
    return np.where(away < 12, table[BONE], np.where(away < 38, table[MUSCLE], table[AIR])).astype(np.float32)


_BESIDE = {"headrest": _headrest, "hand": _hand, "arms": _arms}


def _header(is_ct: bool, number: int) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    ds.SOPClassUID, ds.SOPInstanceUID = (CT if is_ct else MR), f"1.2.826.0.1.3680043.99.7.3.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.99.7", "1.2.826.0.1.3680043.99.7.3"
    ds.FrameOfReferenceUID = "1.2.826.0.1.3680043.99.7.4"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Nobody^Ada", "MRN-5512", "19700101", "F"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240301"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101112"
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = "A1", "1", "Roe^Ann"
    ds.Modality, ds.Manufacturer, ds.BodyPartExamined = ("CT" if is_ct else "MR"), "SIEMENS", "HEAD"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"] if is_ct else ["ORIGINAL", "PRIMARY", "M", "ND"]
    ds.SeriesNumber, ds.InstanceNumber, ds.PatientPosition = "2", str(number), "HFS"
    ds.PositionReferenceIndicator, ds.AcquisitionNumber = None, "1"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if is_ct:
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType, ds.KVP = "-1024", "1", "HU", "120"
    else:
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", None, "3D"
        ds.EchoTime, ds.RepetitionTime, ds.EchoTrainLength = "3", "2000", "1"
    return ds


def stored(series: Sequence[Dataset]) -> Array:
    """Stored values, (slices, rows, columns), of a series as `Scan.series` makes it."""
    return np.stack([np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns) for ds in series])


def taken_off(series: Sequence[Dataset], head: Head = Head.SERIES) -> bool:
    """Take the face off a series in place; False: it shows no head."""
    with Decoder(timeout_seconds=60, memory_bytes=1 << 31) as decoder:
        found = SeriesOfHead(head, decoder)
        for ds in series:
            found.add(ds)
        defacing = found.find()
        for ds in series if defacing else ():
            assert defacing is not None
            defacing.take_off(ds)
    return defacing is not None


def defaced(scan: Scan, **attributes: Any) -> tuple[Array, Array]:
    """Stored values before and after."""
    series = scan.series(**attributes)
    before = stored(series)
    assert taken_off(series)
    return before, stored(series)
