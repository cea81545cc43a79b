"""Whose images are: whether a study is of one patient, and whether the images of a series say the same of him and of it.

Pure. What an image does not say is no disagreement, as in `agreement`. Names of attributes leave here, never their values.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from itertools import combinations
from typing import Final

from pydicom import Dataset
from pydicom.tag import Tag

from dicomnode.deidentification.issuers import is_universal
from dicomnode.encoded import series_of
from dicomnode.errors import StudyError
from dicomnode.workflow.agreement import same_name

_NAME: Final = "PatientName"
#: What tells people whose results they have before them: what a result says of it, it has of one image.
_SAID: Final = (_NAME, "PatientBirthDate", "PatientSex", "AccessionNumber")
_TAGS: Final = tuple(map(Tag, _SAID))
_PADDING: Final = "\0 "
#: Nobody's name is spelt in more ways; all of them are compared with each other, since agreeing is not transitive.
_SPELLINGS: Final = 16


def disagreement(datasets: Iterable[Dataset]) -> StudyError | None:
    """Why results of a series would be in the name of nobody: its images say different names, birth dates and the like.

    Somebody corrects them while it is scanned, or a part of it, and the Patient ID was right. Results are of one image's
    identity, and must not go out under the one that was wrong.

    Returns
    -------
    StudyError or None
        ``patient-mismatch``, with the keyword of the first attribute of which images say different things.
    """
    said: dict[str, set[str]] = defaultdict(set)
    seen: set[int] = set()
    for dataset in datasets:
        series = series_of(dataset, _TAGS)
        if series is not None:
            if id(series) in seen:
                continue
            seen.add(id(series))
        for keyword in _SAID:
            if value := str(dataset.get(keyword) or "").strip(_PADDING):
                said[keyword].add(" ".join(value.casefold().split()))
    for keyword in _SAID:
        if not _is_one(keyword, said[keyword]):
            return StudyError("patient-mismatch", attribute=keyword)
    return None


def count_patients(found: Collection[tuple[str, str]]) -> int:
    """How many patients a study is of.

    Parameters
    ----------
    found
        What its images have of `selection.patient_of`. An id whose issuer is not said is of the issuer that others say, and
        nobody knows whether a text and a universal identifier are one issuer's.
    """
    said = Counter(
        (patient_id, bool(patient_id) and is_universal(issuer))
        for patient_id, issuer in set(found)
        if issuer or not patient_id
    )
    return sum(max(1, said[patient_id, False], said[patient_id, True]) for patient_id in {one[0] for one in found})


def _is_one(keyword: str, values: Collection[str]) -> bool:
    if keyword != _NAME:
        return len(values) < 2
    return len(values) <= _SPELLINGS and all(same_name(*pair) for pair in combinations(values, 2))
