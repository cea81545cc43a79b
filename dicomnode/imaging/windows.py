"""Which gray values a picture for people is shown with: the window of the source, or one out of its values.

May live here: that choice. A window is a centre and a width in the volume's own values (PS3.3 C.11.2.1.2); of images
whose low values are bright (MONOCHROME1) the width is below 0.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

Window = tuple[float, float]

#: Percentiles of the values between which a window lies that the source does not give.
_LOW, _HIGH = 2.0, 99.5
#: Share of the values that a source's window must part, or it is none of this image.
_PARTED: Final = 0.02


def window_of(header: Dataset, values: npt.NDArray[Any]) -> Window:
    """Window of an image.

    Parameters
    ----------
    values
        (rows, columns): its values, rescaled.
    """
    centre, width = _declared(header, values) or _of_values(values)
    return centre, -width if str(header.get("PhotometricInterpretation") or "") == "MONOCHROME1" else width


def _declared(header: Dataset, values: npt.NDArray[Any]) -> Window | None:
    """Window Center and Width (0028,1050) of the image, the first pair; None where they show nothing of it."""
    try:
        centre, width = (_first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    except (TypeError, ValueError):
        return None
    if not (math.isfinite(centre) and math.isfinite(width) and width >= 1):
        return None
    inside = np.abs(values - np.float32(centre)) < width / 2
    return (centre, width) if inside.mean() >= _PARTED else None


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, MultiValue | list) else value)


def _of_values(values: npt.NDArray[Any]) -> Window:
    low, high = (float(one) for one in np.percentile(values, (_LOW, _HIGH)))
    return (low + high) / 2, max(high - low, 1.0)
