"""A series as a model's rule sees it: what is known before its pixels are read.

Floor 1, pure. Rules judge it (`manifest`), the workflow fills it out of headers.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesSummary:
    """What is known of a series before its pixels are read.

    Attributes
    ----------
    series_key
        Blind key of the series; breaks ties.
    modality, sop_class_uid, image_type, kernel, body_part
        Modality (0008,0060), SOP Class UID, values of Image Type (0008,0008), Convolution Kernel (0018,1210) and
        Body Part Examined (0018,0015) of the series' images; empty where absent.
    slices
        Number of images.
    extent_mm, slice_spacing_mm
        Distance of the first slice's centre from the last one's, and of two neighbours; None where it is not known.
    slice_thickness_mm
        Slice Thickness (0018,0050); None where absent.
    """

    series_key: str
    modality: str
    sop_class_uid: str
    image_type: tuple[str, ...]
    slices: int
    extent_mm: float | None = None
    slice_spacing_mm: float | None = None
    kernel: str = ""
    body_part: str = ""
    slice_thickness_mm: float | None = None
