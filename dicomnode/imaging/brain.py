"""Where the brain lies in a volume of CT or MR, and whether it is one for certain: the frame of a head.

May live here: the search for a skull (CT) or a head (MR), the balloon's result, what proves it. May not: the face.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from dicomnode.errors import StudyError
from dicomnode.imaging.balloon import Floats, Grid, Levels, Values, blow, middle_and_spread, normals, sphere, volume_ml

#: HU of a CT of soft tissue, brightest last; what is darker or brighter is wall (fat, air; bone).
_SOFT: Final = (-50.0, 110.0)
_BONE: Final = 200.0
_AIR_CT: Final = -400.0
#: Distance of the skull from the brain's middle, mm, in which a ray must meet bone; step of rays and of their starts.
_SKULL: Final = (40.0, 115.0)
_RAY_STEP, _START_STEP = 4.0, 20.0
_ENCLOSED: Final = 0.8  # of all rays from within a skull
_OPEN: Final = 0.65  # from anywhere else at the most
_HEAD_MM: Final = 150.0  # from the vertex to below the brain
_VERTEX_MM2: Final = 2000.0
#: Half lengths of an adult's brain in front and to the side, mm; what an infant's and the largest have.
_TYPICAL: Final = 86.0
_HALF_LENGTHS: Final = ((60.0, 110.0), (45.0, 90.0))
_VOLUME_ML: Final = (500.0, 2400.0)
#: By how much the long axis of a brain rises toward the front.
_LEAN_DEGREES: Final = 11.0
_FRONT: Final = np.array([0.0, -1.0, 0.0])
_STEEPEST: Final = np.cos(np.radians(50.0))
_IN_VIEW, _EDGE_MM = 0.72, 4.0  # of the surface; farther than this from an edge of the volume
_CUT: Final = 0.08  # of the vault, by an edge of the volume
_WALLED, _SKINNED = 0.6, 0.7  # of the vault
_SKIN_MM: Final = 45.0
_FALL_MM: Final = 18.0
_MARGIN_CT, _MARGIN_MR = 6.0, 8.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Brain:
    """A brain in the patient (LPS, mm).

    Attributes
    ----------
    surface
        Vertices of its surface, (n, 3).
    origin
        Middle of its length and width, at the level of an adult's thalamus.
    axes
        Rows: unit vectors to the front, to the left and to the top of the head.
    half_length, half_width
        From the origin to the front and to the side, mm.
    air
        Value of air around the head.
    margin
        Distance from the surface within which nothing may be touched, mm: of a CT it is the skull's inner side, of an MR
        it may run where the cortex ends, or within it.
    """

    surface: Floats = field(repr=False)
    origin: Floats
    axes: Floats
    half_length: float
    half_width: float
    air: float
    margin: float

    @property
    def scale(self) -> float:
        """Size beside an adult's."""
        return self.half_length / _TYPICAL

    def within(self, points: Floats) -> Floats:
        """Points, (..., 3), in the frame of the head: toward the front, the left and the top, mm from the origin."""
        return np.asarray((points - self.origin) @ self.axes.T)


def find_brain(grid: Grid, *, is_ct: bool) -> Brain:
    """The brain in a volume.

    Raises
    ------
    StudyError
        ``withheld-face-not-found`` with the check that failed: nothing proves then where the face is.
    """
    body, levels, centre, radius, air = _start_of_ct(grid) if is_ct else _start_of_mr(grid)
    surface = blow(body, levels, centre, radius)
    middle, spread = middle_and_spread(surface)  # begun where it ended, it reaches all sides alike
    surface = blow(body, levels, middle, float(np.sqrt(np.linalg.eigvalsh(spread)[0])))
    if not _VOLUME_ML[0] <= volume_ml(surface) <= _VOLUME_ML[1]:
        raise _not_found("volume")
    if grid.holds(surface, _EDGE_MM).mean() < _IN_VIEW:
        raise _not_found("view")
    brain = _framed(surface, air, _MARGIN_CT if is_ct else _MARGIN_MR)
    _prove(brain, body, levels, grid)
    return brain


def has_no_skull(grid: Grid) -> bool:
    """Whether a CT shows no skull for certain: from nowhere in it do most rays meet bone as near as in a head."""
    return _enclosure(grid)[0] < _OPEN


def _not_found(because: str) -> StudyError:
    return StudyError("withheld-face-not-found", because=because)


def _enclosure(grid: Grid) -> tuple[float, Floats, float]:
    """Best share of rays that meet bone after soft tissue, from where, and the median distance of that bone, mm."""
    steps = [max(1, round(_START_STEP / float(np.linalg.norm(grid.affine[:3, axis])))) for axis in range(3)]
    starts = grid.values[:: steps[0], :: steps[1], :: steps[2]]
    soft = np.argwhere((starts > _SOFT[0]) & (starts < _SOFT[1] + 40)) * steps
    best: tuple[float, Floats, float] = (0.0, np.zeros(3), 0.0)
    distances = np.arange(0.0, _SKULL[1] + _RAY_STEP, _RAY_STEP)
    rays = sphere()[0][::9]
    offsets = (rays[:, None] * distances[:, None]).reshape(-1, 3)
    for part in np.array_split(soft, max(1, len(soft) // 512)):
        centres = part @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        found = grid.at(centres[:, None] + offsets).reshape(len(part), len(rays), len(distances))
        bone = found > _BONE
        first = np.where(bone.any(axis=2), bone.argmax(axis=2), len(distances) - 1)
        reach = distances[first]
        before = np.arange(len(distances)) < first[:, :, None] - 1
        soft_before = (((found > -30) & (found < _SOFT[1])) | ~before).all(axis=2)
        hit = bone.any(axis=2) & (reach >= _SKULL[0] / 2) & soft_before
        shares = hit.mean(axis=1)
        spread = np.where(hit, reach, np.nan)
        for index in np.argsort(-shares)[:3]:
            if shares[index] > best[0]:
                best = (float(shares[index]), np.asarray(centres[index]), float(np.nanmedian(spread[index])))
    return best


def _start_of_ct(grid: Grid) -> tuple[Grid, Levels, Floats, float, float]:
    share, centre, reach = _enclosure(grid)
    if share < _ENCLOSED:
        raise _not_found("skull")
    values = grid.values - np.float32(_SOFT[0])
    values[(grid.values < _SOFT[0]) | (grid.values > _SOFT[1])] = 0
    body = Grid(values=values, affine=grid.affine)
    levels = Levels(darkest=0.0, threshold=15.0, typical=80.0)
    return body, levels, centre, min(reach, 60.0) * 0.6, -1000.0


def _start_of_mr(grid: Grid) -> tuple[Grid, Levels, Floats, float, float]:
    sample = grid.values[::2, ::2, ::2]
    darkest, brightest = (float(one) for one in np.percentile(sample, (2, 98)))
    if not brightest > darkest:
        raise _not_found("contrast")
    threshold = darkest + 0.1 * (brightest - darkest)
    voxel = abs(float(np.linalg.det(grid.affine[:3, :3])))
    places = np.argwhere(grid.values > threshold)
    heights = places @ grid.affine[2, :3] + grid.affine[2, 3]
    slab = 4.0
    low = float(heights.min()) if len(heights) else 0.0
    areas = np.bincount(((heights - low) / slab).astype(np.intp)) * voxel / slab if len(heights) else np.zeros(1)
    wide = np.flatnonzero(areas > _VERTEX_MM2)
    if not len(wide):
        raise _not_found("head")
    vertex = low + (wide[-1] + 1) * slab
    chosen = places[(heights <= vertex) & (heights > vertex - _HEAD_MM)]
    weights = np.minimum(grid.values[tuple(chosen.T)], brightest).astype(np.float64) - darkest
    middle = (chosen * weights[:, None]).sum(axis=0) / weights.sum()
    centre = grid.affine[:3, :3] @ middle + grid.affine[:3, 3]
    radius = (3 * len(chosen) * voxel / (4 * np.pi)) ** (1 / 3)
    inside = grid.at(centre + sphere()[0] * np.linspace(0.1, 1.0, 10)[:, None, None] * radius / 2)
    levels = Levels(darkest=darkest, threshold=threshold, typical=float(np.median(inside)))
    air = float(np.median(sample[sample <= threshold]))
    return grid, levels, centre, radius / 2, air


def _framed(surface: Floats, air: float, margin: float) -> Brain:
    """Frame of a brain: halves alike beside its middle plane, in which its longest axis rises to the front by 11 degrees."""
    middle = surface.mean(axis=0)
    reach = np.linalg.norm(surface - middle, axis=1, keepdims=True)
    trusted = middle + (surface - middle) * np.minimum(1.0, 1.3 * np.median(reach) / reach)
    middle, spread = middle_and_spread(trusted)
    sideways = _sideways(trusted - middle)
    within_plane = np.eye(3) - np.outer(sideways, sideways)
    axes = np.linalg.eigh(within_plane @ spread @ within_plane)[1].T[1:]
    forward = axes[np.argmax(np.abs(axes @ _FRONT))]
    forward = forward * np.sign(forward @ _FRONT)
    upward = np.cross(sideways, -forward)
    lean = np.radians(_LEAN_DEGREES)
    frame = np.array([
        np.cos(lean) * forward - np.sin(lean) * upward, sideways, np.sin(lean) * forward + np.cos(lean) * upward,
    ])  # fmt: skip
    if frame[0] @ _FRONT < _STEEPEST:
        raise _not_found("pose")
    within = trusted @ frame.T
    low, high = within.min(axis=0), within.max(axis=0)
    length, width = (high - low)[:2] / 2
    for half, (least, most) in zip((length, width), _HALF_LENGTHS, strict=True):
        if not least <= half <= most:
            raise _not_found("size")
    if not 0.95 <= length / width <= 1.7:
        raise _not_found("shape")
    top = high[2] - 0.85 * length
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, top]) @ frame
    return Brain(
        surface=surface, origin=origin, axes=frame, half_length=float(length), half_width=float(width), air=air, margin=margin
    )  # fmt: skip


def _sideways(centred: Floats) -> Floats:
    """Direction to the left beside which both halves of a surface are most alike, within 40 degrees of the patient's."""
    tree = cKDTree(centred)
    best = (np.inf, 0.0, 0.0)
    for step, reach in ((8.0, 40.0), (2.0, 8.0), (0.5, 2.0)):
        _, tilt, turn = best
        for down in np.arange(tilt - reach, tilt + reach + 0.1, step):
            for back in np.arange(turn - reach, turn + reach + 0.1, step):
                left = _tilted(down, back)
                mirrored = centred - 2 * (centred @ left)[:, None] * left
                best = min(best, (float(np.mean(tree.query(mirrored)[0])), float(down), float(back)))
    return _tilted(*best[1:])


def _tilted(down: float, back: float) -> Floats:
    """Direction to the left, some degrees down and some to the back."""
    low, behind = np.radians([down, back])
    return np.array([np.cos(low) * np.cos(behind), np.cos(low) * np.sin(behind), -np.sin(low)])


def _prove(brain: Brain, body: Grid, levels: Levels, grid: Grid) -> None:
    """A vault has a wall around it and skin close by; a brain is lower behind than in front."""
    is_ct = body is not grid
    outward = normals(brain.surface)
    within = brain.within(brain.surface)
    vault = within[:, 2] > 0
    if vault.sum() < 0.2 * len(within) or (~grid.holds(brain.surface[vault], _EDGE_MM)).mean() > _CUT:
        raise _not_found("vault")
    depths = np.arange(-4.0, 16.0, 1.0)
    beside = body.at(brain.surface[vault][:, None] + depths[:, None] * outward[vault][:, None])
    if is_ct:
        bone = grid.at(brain.surface[vault][:, None] + depths[:, None] * outward[vault][:, None]) > _BONE
        walled = bone.any(axis=1)
    else:
        half = levels.darkest + 0.5 * (levels.typical - levels.darkest)
        walled = (beside[:, depths >= -2] < half).any(axis=1)
    if walled.mean() < _WALLED:
        raise _not_found("wall")
    if _skinned(brain, grid, levels, vault, is_ct=is_ct) < _SKINNED:
        raise _not_found("skin")
    if _falls_behind(brain) < _FALL_MM:
        raise _not_found("orientation")


def _skinned(brain: Brain, grid: Grid, levels: Levels, vault: npt.NDArray[np.bool_], *, is_ct: bool) -> float:
    """Share of the vault above which all is air within the thickness of skull and scalp."""
    distances = np.arange(_SKIN_MM - 8.0, _SKIN_MM, 2.0)
    points = brain.surface[vault][:, None] + distances[:, None] * normals(brain.surface)[vault][:, None]
    air = grid.at(points) < (_AIR_CT if is_ct else levels.threshold)
    return float(np.mean((air | ~grid.holds(points)).all(axis=1)))


def _falls_behind(brain: Brain) -> float:
    """How much lower the brain ends behind (cerebellum) than in front (above the orbits), mm."""
    front, left, top = brain.within(brain.surface).T / brain.scale
    lower = (np.abs(left) < 40) & (top < 0)
    fore, aft = (lower & (front * sign > 25) & (front * sign < 65) for sign in (1, -1))
    if not (fore.any() and aft.any()):
        return 0.0
    return float(np.median(top[fore]) - np.median(top[aft]))


def values_of(array: npt.NDArray[np.generic]) -> Values:
    """Values as the grid takes them."""
    return np.ascontiguousarray(array, np.float32)
