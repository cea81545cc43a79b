"""Pseudonyms: UIDs, patient ids, tokens and date shifts, all keyed HMACs, so that they agree over instances and years.

Pure. The key belongs to the identity world; who lacks it can neither make a pseudonym nor undo one.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from pydicom._uid_dict import UID_dictionary

from dicomnode.deidentification.values import composed
from dicomnode.study import blind_key, mint_uid

_CLASSES: Final = "1.2.840.10008."
#: Label maps, which the standard gained after the dictionary.
_NEWER: Final = frozenset({f"{_CLASSES}5.1.4.1.1.66.7", f"{_CLASSES}5.1.4.1.1.66.8"})
#: Color palettes, frames of reference, coding schemes, classes, syntaxes: every UID that PS3.6 Annex A registers.
WELL_KNOWN: Final = frozenset(UID_dictionary) | _NEWER
_REMEMBERED: Final = 100_000
_DATE: Final = re.compile(r"(\d{4})[-./]?(\d{2})[-./]?(\d{2})")  # some write them with marks
_DATETIME: Final = re.compile(r"(\d{4})(\d{2})?(\d{2})?(\d{0,6}(?:\.\d{1,9})?)([+-]\d{4})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom pseudonyms and shifts belong to: a patient, or a study where the patient id is empty."""

    parts: tuple[str, ...] = field(repr=False)


class Pseudonyms:
    """Pseudonyms of one project.

    Parameters
    ----------
    derivation_key
        32 bytes of the identity world.
    project
        Pseudonyms of two projects cannot be linked.
    default_issuer
        Issuer of Patient ID for ids that come without one.
    maximum_date_shift_days
        Dates move back by 1 to this many whole days, the same for all of a patient.
    """

    def __init__(
        self, derivation_key: bytes, project: str, default_issuer: str = "", maximum_date_shift_days: int = 3650
    ) -> None:
        if maximum_date_shift_days < 1:
            raise ValueError("dates move by a day at least")
        blind_key(derivation_key, "check")
        self._key = derivation_key
        self._project = project
        self._default_issuer = composed(default_issuer).strip()  # as issuers of objects are read
        self._maximum = maximum_date_shift_days
        self._uids: dict[str, str] = {}

    def uid(self, old: str) -> str:
        """UID that stands for another; well-known ones stand for themselves."""
        if old in WELL_KNOWN or not old:
            return old
        new = self._uids.get(old)
        if new is None:
            if len(self._uids) >= _REMEMBERED:
                self._uids.clear()
            new = self._uids[old] = mint_uid(self._key, "pseudonym", self._project, old)
        return new

    def subject(self, patient_id: str, issuer: str, study_instance_uid: str) -> Subject:
        """Subject of a Data Set, by (0010,0020), its issuer (`issuers`) and, where the id is empty, (0020,000D)."""
        if patient := patient_id.strip():
            return Subject(parts=("patient", issuer.strip() or self._default_issuer, patient))
        return Subject(parts=("study", study_instance_uid.strip()))

    def patient_id(self, subject: Subject) -> str:
        """Pseudonym of 20 characters for Patient ID and Patient's Name."""
        digest = bytes.fromhex(blind_key(self._key, "patient", self._project, *subject.parts))
        return "DN-" + base64.b32encode(digest[:10]).decode()

    def token(self, kind: str, value: str) -> str:
        """Twelve characters that stand for an identifier which things are linked by."""
        return "ID" + blind_key(self._key, f"token:{kind}", self._project, value)[:10].upper()

    def shift(self, subject: Subject) -> timedelta:
        """How far the dates of a subject move, always back."""
        number = int(blind_key(self._key, "shift", self._project, *subject.parts), 16)
        return -timedelta(days=1 + number % self._maximum)


#: Branches of the standard's own tree that hold registered UIDs; context groups (PS3.6 Table A-3) are no part of the
#: dictionary.
_BRANCHES: Final = frozenset({"1.2.840.10008.6", "1.2.840.10008.6.1"}) | frozenset(
    ".".join(parts[:count])
    for parts in (uid.split(".") for uid in WELL_KNOWN if uid.startswith(_CLASSES))
    for count in range(_CLASSES.count(".") + 1, len(parts))
)
_TIME: Final = re.compile(r"(\d\d)(:?)(\d\d)(:?)(\d\d)((?:\.\d+)?) *")
_LEAF_DIGITS: Final = 4
_DAY_SECONDS: Final = 24 * 60 * 60


def is_class_uid(uid: str) -> bool:
    """Whether a UID is registered (PS3.6 A), or looks like one that the standard gained after us, beside known ones."""
    if uid in WELL_KNOWN:
        return True
    parts = uid.split(".")
    return any(
        ".".join(parts[:-count]) in _BRANCHES and _is_leaf(parts[-count:]) for count in (1, 2) if len(parts) > count
    )


def _is_leaf(parts: list[str]) -> bool:
    """Whether components beside a known branch have four digits in all: no identifier fits into them."""
    whole = "".join(parts)
    written = all(part.isascii() and part.isdigit() and (part == "0" or part[0] != "0") for part in parts)
    return written and len(whole) <= _LEAF_DIGITS


def shifted_date(value: str, shift: timedelta) -> str | None:
    """DA moved by whole days (PS3.5 6.2; also the old form with dots), None where it is no date."""
    match = _DATE.fullmatch(value)
    if match is None:
        return None
    try:
        moved = date(int(match[1]), int(match[2]), int(match[3])) + shift
    except (ValueError, OverflowError):
        return None
    return f"{moved.year:04}{moved.month:02}{moved.day:02}"


def shifted_datetime(value: str, shift: timedelta) -> str | None:
    """DT moved by whole days, its time and offset from UTC as they are; None where it is no date and time."""
    match = _DATETIME.fullmatch(value)
    if match is None or (match[4] and match[3] is None):
        return None
    moved = shifted_date(match[1] + (match[2] or "07") + (match[3] or "01"), shift)
    if moved is None:
        return None
    kept = 4 + len(match[2] or "") + len(match[3] or "")
    return moved[:kept] + match[4] + (match[5] or "")


def later(value: str, seconds: int) -> str:
    """TM some seconds later, or sooner where midnight is near, its fraction and separators as they are; without seconds it stays."""
    match = _TIME.fullmatch(value)
    if match is None or not seconds:
        return value
    whole = (int(match[1]) * 60 + int(match[3])) * 60 + int(match[5])
    whole += seconds if whole + seconds < _DAY_SECONDS else -seconds  # of the same day
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours:02}{match[2]}{minutes:02}{match[4]}{whole % 60:02}{match[6]}"
