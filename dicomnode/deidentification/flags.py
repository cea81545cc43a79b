"""Flags of pixels: Burned In Annotation (0028,0301), Recognizable Visual Features (0028,0302). Pure.

They say what was seen here, or nothing: without them an image may show text or a face or not (PS3.3 C.7.6.1). A source's NO is
hearsay, and stays only where what was looked at here confirms it, or where the class of the object requires the flag.
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset

from dicomnode.deidentification import profile
from dicomnode.deidentification.pixels import Done, Plan

FLAGS: Final = frozenset({0x00280301, 0x00280302})


def declare_burned_in(target: Dataset, sop_class_uid: str, plan: Plan, done: Done) -> None:
    """NO where text was looked for on every frame, blanked, and nothing doubtful stays nor could stay unseen; a YES stays where nobody looked.

    Of many frames some are looked at closely, and who knows some does not know all. That a site vouches for an image is hearsay, too.
    """
    keeps = "" if plan.read or plan.vouched else "NO" if plan.searched else "YES"
    _declare(target, sop_class_uid, "BurnedInAnnotation", "NO" if done.clean else "", keeps)


def declare_recognizable(target: Dataset, sop_class_uid: str, flag: str, *, looked: bool) -> None:
    """What is known of a face; else a YES stays, and a NO where the whole series was looked at for a head."""
    source = str(target.get("RecognizableVisualFeatures"))
    _declare(target, sop_class_uid, "RecognizableVisualFeatures", flag, source if looked else "YES")


def _declare(target: Dataset, sop_class_uid: str, keyword: str, known: str, keeps: str) -> None:
    if known:
        setattr(target, keyword, known)
    elif keyword in target and target[keyword].value != keeps and profile.type_of("", keyword, sop_class_uid) != 1:
        del target[keyword]
