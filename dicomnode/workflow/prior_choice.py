"""Which earlier studies of a patient, and which of their series, a model is to see: a pure choice over what a source shows.

A source is not believed: what it shows of another patient, of no date or of the future is left out and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final

from pydicom import Dataset

from dicomnode.manifest import Priors
from dicomnode.workflow.agreement import same_name
from dicomnode.workflow.selection import patient_of

#: Attributes of a study that are asked for (PS3.4 Table C.6-5).
STUDY_KEYS: Final = ("StudyInstanceUID", "StudyDate", "StudyTime", "PatientID", "IssuerOfPatientID", "PatientBirthDate")
SERIES_KEYS: Final = ("SeriesInstanceUID", "Modality", "BodyPartExamined", "NumberOfSeriesRelatedInstances")
_PATIENT_KEYS: Final = ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientName", "PatientSex")
_SEXES: Final = frozenset({"M", "F"})  # of O nobody knows what it was elsewhere
_WILD: Final = frozenset("*?\\")
_MOST_ANSWERS: Final = 1000
_UID: Final = re.compile(r"[0-9.]{1,64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whose priors are sought: patient and study of the images that a model works on."""

    patient_id: str = field(repr=False)
    issuer: str = field(repr=False)
    birth_date: str = field(repr=False)
    name: str = field(default="", repr=False)
    sex: str = field(default="", repr=False)
    study_instance_uid: str = field(repr=False)
    study_date: str = field(repr=False)
    study_time: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorStudy:
    """An earlier study, and how many days earlier it is."""

    study_instance_uid: str = field(repr=False)
    days_before: int


def subject_of(header: Dataset) -> Subject | None:
    """Subject of an image; None where its patient cannot be asked for: no id, one beyond ASCII, or a pattern."""
    patient_id, _ = patient_of(header)
    dated = _day(_text(header, "StudyDate"))
    if not patient_id or not patient_id.isascii() or _WILD & set(patient_id) or dated is None:
        return None
    return Subject(
        patient_id=patient_id,
        issuer=_text(header, "IssuerOfPatientID"),  # as answers say it
        birth_date=_text(header, "PatientBirthDate"),
        name=_text(header, "PatientName"),
        sex=_text(header, "PatientSex"),
        study_instance_uid=_text(header, "StudyInstanceUID"),
        study_date=_text(header, "StudyDate"),
        study_time=_text(header, "StudyTime"),
    )


def study_query(subject: Subject, rule: Priors) -> dict[str, str]:
    """What is asked at the level of studies (PS3.4 C.2.2.2.5: a range of dates)."""
    last = _day(subject.study_date)
    assert last is not None
    first = last - timedelta(days=min(rule.maximum_age_days, (last - date.min).days))
    query = dict.fromkeys(STUDY_KEYS, "")
    return {**query, "PatientID": subject.patient_id, "StudyDate": f"{first:%Y%m%d}-{last:%Y%m%d}"}


def choose_studies(
    found: Iterable[Mapping[str, str]], subject: Subject, rule: Priors
) -> tuple[tuple[PriorStudy, ...], int]:
    """Earlier studies of the patient, the newest first; and how many that were shown are another patient's."""
    chosen: dict[str, tuple[tuple[int, str], PriorStudy]] = {}
    strangers = 0
    for answer in list(found)[:_MOST_ANSWERS]:
        if not is_patient(answer, subject):
            strangers += 1
            continue
        uid, days = uid_of(answer, "StudyInstanceUID"), days_before(answer, subject, rule)
        if not uid or uid == subject.study_instance_uid or days is None:
            continue
        order = -days, answer.get("StudyTime", "").strip()
        chosen[uid] = (order, PriorStudy(study_instance_uid=uid, days_before=days))
    ordered = sorted(chosen.items(), key=lambda item: (item[1][0], item[0]), reverse=True)
    return tuple(study for _, (_, study) in ordered), strangers


def days_before(answer: Mapping[str, str], subject: Subject, rule: Priors) -> int | None:
    """How many days before the subject's study an answer's is; None where it is not, too long, or nobody says."""
    here, day = _day(subject.study_date), _day(answer.get("StudyDate", ""))
    if here is None or day is None:
        return None
    days = (here - day).days
    is_before = days > 0 or answer.get("StudyTime", "").strip() < subject.study_time
    return days if 0 <= days <= rule.maximum_age_days and is_before else None


def is_patient(answer: Mapping[str, str], subject: Subject) -> bool:
    """Whether an answer is about the subject, as far as both say.

    The same id; issuer, birth date and sex do not differ. Names change: they are compared where no birth date is.
    """
    said = {key: answer.get(key, "").strip() for key in _PATIENT_KEYS}
    pairs = [(said["IssuerOfPatientID"], subject.issuer), (said["PatientBirthDate"], subject.birth_date)]
    if {said["PatientSex"], subject.sex} <= _SEXES:
        pairs.append((said["PatientSex"], subject.sex))
    if said["PatientID"] != subject.patient_id or any(here and there and here != there for here, there in pairs):
        return False
    return bool(said["PatientBirthDate"] and subject.birth_date) or same_name(said["PatientName"], subject.name)


def said_by(header: Dataset) -> dict[str, str]:
    """What an image says of its patient and of when its study was, as an answer to C-FIND would."""
    return {key: _text(header, key) for key in (*_PATIENT_KEYS, "StudyDate", "StudyTime")}


def choose_series(found: Iterable[Mapping[str, str]], rule: Priors) -> dict[str, int]:
    """UIDs of series that may do, those of most images first, and how many they are said to have (0: nobody says).

    Only their images tell whether they do.
    """
    parts = {part.strip().upper() for part in rule.body_parts}
    chosen: dict[str, int] = {}
    for answer in list(found)[:_MOST_ANSWERS]:
        uid, part = uid_of(answer, "SeriesInstanceUID"), answer.get("BodyPartExamined", "").strip().upper()
        if uid and answer.get("Modality", "").strip() in rule.modalities and (not parts or not part or part in parts):
            count = answer.get("NumberOfSeriesRelatedInstances", "").strip()
            chosen[uid] = int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0
    return dict(sorted(chosen.items(), key=lambda one: (-one[1], one[0])))


def uid_of(answer: Mapping[str, str], keyword: str) -> str:
    """A UID of an answer; "" where it is none: it will be asked by."""
    uid = answer.get(keyword, "").strip("\0 ")
    return uid if _UID.fullmatch(uid) else ""


def _text(dataset: Dataset, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").date()  # noqa: DTZ007 (a day has no zone)
    except ValueError:
        return None
