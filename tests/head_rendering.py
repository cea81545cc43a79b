"""Pictures of the skin of a volume, as anybody could draw them: what a defacing has to stand.

``python -m tests.head_rendering deploy/docs/faces.png`` draws the phantom before and after.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]


def surface(solid: Array, spacing: tuple[float, float, float], yaw: float, nod: float = 0.0) -> Array:
    """Depth-shaded picture, uint8: axes of `solid` grow to the top, to the back and to the left; degrees turned."""
    step = 2.0
    even = ndimage.zoom(solid.astype(np.float32), [size / step for size in spacing], order=1)
    even = np.pad(even, 20)
    turned = ndimage.rotate(even, yaw, axes=(1, 2), reshape=False, order=1)
    turned = ndimage.rotate(turned, nod, axes=(0, 1), reshape=False, order=1)
    inside = ndimage.gaussian_filter(turned, 0.7) > 0.5
    hit = inside.any(axis=1)
    depth = np.where(hit, inside.argmax(axis=1), inside.shape[1]).astype(np.float32)
    smooth = ndimage.gaussian_filter(depth, 0.8)
    down, right = np.gradient(smooth)
    light = (0.45 * right + 0.35 * down + 1.0) / np.sqrt(1 + down**2 + right**2) / 1.3
    shade = np.clip(light, 0.08, 1) * 235
    return np.where(hit, shade, 0).astype(np.uint8)[::-1]


def side_by_side(pictures: list[Array]) -> Array:
    """Pictures in one row."""
    high = max(one.shape[0] for one in pictures)
    return np.concatenate([np.pad(one, ((0, high - one.shape[0]), (2, 2))) for one in pictures], axis=1)


def _main(target: Path) -> None:
    from dicomnode.imaging.render import png
    from tests.head_phantom import Scan, defaced

    rows = []
    for contrast, threshold in (("ct", 624), ("t1", 60)):
        scan = Scan(contrast=contrast)
        before, after = defaced(scan)
        pictures = [
            surface(one > threshold, (scan.step, scan.pixel, scan.pixel), yaw)
            for one in (before, after)
            for yaw in (0, 40, 90)
        ]
        rows.append(side_by_side(pictures))
    whole = np.concatenate(rows)
    target.write_bytes(png(np.repeat(whole[..., None], 3, axis=2)))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
