"""Properties: no source value survives anywhere, order does not matter, and the same source gives the same output."""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from datetime import date, timedelta

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.compressed import Picture, scrub
from dicomnode.deidentification.descriptors import cleaned
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms, shifted_date, shifted_datetime
from dicomnode.deidentification.vocabulary import is_common, known
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import StudyError
from tests.unit.deidentification import planted

LIMITS = Limits(header_scan_bytes=1 << 20, maximum_nesting=32, maximum_items=100_000, maximum_inflated_bytes=1 << 30)
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
WORDS = st.text("abcdefghijklmnopqrstuvwxyz", min_size=5, max_size=12).filter(lambda word: not is_common(word))
#: Words that the engine writes itself: its name, the policy's, and the meanings of CID 7050.
OURS = {word.encode() for concept in EXPORT.concepts for word in concept.meaning.lower().split()} | {
    b"dicomnode",
    b"export",
}
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
KEYWORDS = st.sampled_from(
    [
        "SeriesDescription",
        "StudyDescription",
        "ProtocolName",
        "ImageComments",
        "ConvolutionKernel",
        "SequenceName",
        "SoftwareVersions",
        "ManufacturerModelName",
        "Manufacturer",
        "ContrastBolusAgent",
        "OperatorsName",
        "StationName",
        "ScanOptions",
        "BodyPartExamined",
    ]
)


@QUICK
@example(family="aaaaa", given_name="export", number=10000000, places=[])
@example(family="dates", given_name="graphics", number=10000000, places=["SeriesDescription"])
@given(family=WORDS, given_name=WORDS, number=st.integers(10**7, 10**9), places=st.lists(KEYWORDS, max_size=6))
def test_names_and_numbers_survive_nowhere(family: str, given_name: str, number: int, places: list[str]) -> None:
    ds = planted.slice_of_ct()
    ds.PatientName, ds.PatientID, ds.OtherPatientIDs = f"{family}^{given_name}", str(number), f"X{number}"
    for place in places:
        text = f"{given_name} {number}"[:16].strip()
        setattr(ds, place, text.upper() if place in ("ScanOptions", "BodyPartExamined") else text)
    source = read_part10(planted.encoded(ds), LIMITS)
    output = encode_part10(
        Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset, transfer_syntax_uid=planted.EXPLICIT
    ).lower()
    header = output[: output.rindex(b"\xe0\x7f\x10\x00")]
    words = set(re.findall(rb"[a-z]+", header)) - OURS
    assert not {family.encode(), given_name.encode()} & words
    assert str(number).encode() not in re.findall(rb"(?<![0-9.])[0-9]+(?![0-9.])", header)


@QUICK
@given(order=st.permutations(range(4)))
def test_order_of_instances_does_not_matter(order: list[int]) -> None:
    engine = Deidentifier(EXPORT, Pseudonyms(bytes(range(32)), "project"))
    outputs = {}
    for number in order:
        ds = planted.slice_of_ct()
        ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.3.{number}", str(number)
        result = engine.deidentify(ds).dataset
        outputs[number] = (result.SOPInstanceUID, result.StudyInstanceUID, result.PatientID, result.StudyDate)
    assert [outputs[number][0] for number in range(4)] == [PSEUDONYMS.uid(f"1.2.3.{number}") for number in range(4)]
    assert len({output[1:] for output in outputs.values()}) == 1


@given(
    st.dates(date(1901, 1, 1), date(2099, 12, 31)), st.dates(date(1901, 1, 1), date(2099, 12, 31)), st.integers(1, 3650)
)
def test_intervals_are_kept(first: date, second: date, days: int) -> None:
    shift = timedelta(days=-days)
    moved = [shifted_date(f"{day:%Y%m%d}", shift) for day in (first, second)]
    assert all(moved)
    one, two = (date(int(day[:4]), int(day[4:6]), int(day[6:])) for day in moved if day)
    assert two - one == second - first
    assert shifted_datetime(f"{first:%Y%m%d}1200", shift) == f"{moved[0]}1200"


#: Syllables, marks and signs that the engine may see as letters or as none: vowels of Hindi, letters in circles, Braille,
#: bytes of Shift-JIS that was read as Latin-1, private use.
ODD = ["राजेश", "รานี", "အောင်", "ⓂⓄ", "🅜", "⠍⠕", "\ue000", "\x8d²\x93¡", "e\u0301lise", "\ufffd", "佐藤", "Ж"]
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.sampled_from([*ODD, "CT", "chest", "Head", "Wolkenstein", "T2", "4711", " ", "_", "-", "/", ", "]), max_size=9)
    .map("".join),
)  # fmt: skip


@given(TEXTS, st.frozensets(WORDS, max_size=3))
@example("CT राजेश", frozenset())
@example("佐藤 \x8d²\x93¡ CT", frozenset())
@example("ⓂⓄⓇⒾⓉⓏ chest", frozenset())
def test_cleaned_text_holds_only_technical_words(text: str, forbidden: frozenset[str]) -> None:
    """Judged by characters, not by how the engine splits words: what is no sign belongs to a word that must be known."""
    left = cleaned(text, forbidden)
    words = "".join(" " if _is_sign(char) else char for char in left).split()
    assert [word for word in words if not _is_known(word)] == []
    assert not forbidden & {word.casefold() for word in words}
    assert cleaned(left, forbidden) == left


def _is_sign(char: str) -> bool:
    """Whether a character stands between words: blanks, printable signs of Latin-1, marks and operators beyond."""
    plain = char < "\u0100" and char.isprintable() and not char.isalnum()
    category = unicodedata.category(char)
    return plain or char.isspace() or char in "™℃→←↑↓" or category[0] in "PZ" or category == "Sm"


def _is_known(word: str) -> bool:
    """Whether a piece between signs is a word of a list or made of such, a number, or has few letters and all of them plain."""
    if word.casefold() in known() or word.isdecimal():
        return True
    if not word.isascii():
        return len(word) == 1 and ("α" <= word.casefold() <= "ω" or not word.isalpha())
    cuts = (re.findall(pattern, word) for pattern in ("[A-Za-z]+", "[A-Z]+(?![a-z])|[A-Z]?[a-z]+"))
    return any(all(len(run) < 4 or run.casefold() in known() for run in runs) for runs in cuts)


@given(
    st.binary(max_size=400),
    st.sampled_from(["1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"]),
)
def test_scrubbing_any_bytes_ends_and_keeps_their_length_or_withholds(stream: bytes, syntax: str) -> None:
    start = {"50": b"\xff\xd8", "90": b"\xff\x4f\xff\x51\0\2", ".5": b"\1\0\0\0\x40\0\0\0"}[syntax[-2:]]
    whole = start + stream + b"\xff\xd9"
    value = b"\xfe\xff\x00\xe0\0\0\0\0" + b"\xfe\xff\x00\xe0" + len(whole).to_bytes(4, "little") + whole
    with suppress(StudyError):
        assert len(scrub(value, syntax, Picture(segment_bytes=16))) == len(value)
