"""Out into the pseudonymous world and back: the results of a series have its identity, whatever it is and however it came.

The node's own way: choice of the series, copies, network (the stand-in), results, restoration.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime
from functools import cache

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.identity import IDENTITY_KEYWORDS
from dicomnode.inference import standin
from dicomnode.results import checks
from dicomnode.results.encode import EncodedResult
from dicomnode.study import ResultRole, blind_key, input_digest
from dicomnode.workflow.analysis import Analyst
from dicomnode.workflow.copying import Copier
from dicomnode.workflow.picture import picture_of
from dicomnode.workflow.selection import Header, without_pixels
from tests import pace
from tests.unit.workflow.samples import EXPLICIT, KEY, tiny_series

PSEUDONYMS = Pseudonyms(KEY, project="tests", default_issuer="", maximum_date_shift_days=3650)
FEW = settings(max_examples=pace.rounds(5, 12), deadline=None, suppress_health_check=list(HealthCheck))
LETTERS = st.text(st.sampled_from("abzAZ09 .-äßéŁж山田太郎ﾔﾏ홍길"), min_size=1, max_size=12).map(str.strip).filter(bool)
IDENTITY = st.fixed_dictionaries(
    {},
    optional={
        "PatientName": st.tuples(LETTERS, LETTERS).map("^".join),
        "PatientID": LETTERS,
        "IssuerOfPatientID": LETTERS,
        "PatientBirthDate": st.sampled_from(["19430217", ""]),
        "PatientSex": st.sampled_from(["F", "M", "O", ""]),
        "PatientAge": st.sampled_from(["061Y", "009M"]),
        "PatientWeight": st.sampled_from(["70.50", "81"]),
        "StudyID": LETTERS,
        "StudyDescription": LETTERS,
        "ReferringPhysicianName": st.tuples(LETTERS, LETTERS).map("^".join),
        "AccessionNumber": LETTERS,
        "StudyDate": st.sampled_from(["20200229", "19991231"]),
        "StudyTime": st.sampled_from(["101112.25", "0000"]),
    },
)
#: One slice says otherwise: index, attribute, value; what is no identity among them.
ODD_SLICES = st.dictionaries(
    st.integers(0, 15),
    st.sampled_from(
        [("StudyDescription", "another"), ("PatientWeight", "12"), ("PatientAge", "099Y"), ("ContentTime", "235959"), ("StudyID", "")]
    ),
    max_size=3,
)  # fmt: skip


@cache
def series() -> tuple[Dataset, ...]:
    return tuple(tiny_series())


@cache
def analyst() -> Analyst:
    package = standin.package()
    return Analyst(
        package,
        standin.StandInEngine(package.manifest),
        Deidentifier(AI, PSEUDONYMS),
        tree=Config(),
        derivation_key=KEY,
        issued_at=lambda _: datetime(2026, 3, 1, 12, 0, tzinfo=UTC),
    )


def written(identity: dict[str, str], odd: dict[int, tuple[str, str]]) -> list[bytes]:
    """Files of a series."""
    files = []
    for index, image in enumerate(deepcopy(series())):
        image.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in [*identity.items(), *([odd[index]] if index in odd else [])]:
            setattr(image, keyword, value)
        files.append(encode_part10(image, transfer_syntax_uid=EXPLICIT))
    return files


def worked_on(files: list[bytes]) -> tuple[Dataset, tuple[EncodedResult, ...]]:
    """The source whose identity counts, and the results, of files that came in this order."""
    headers, by_key = [], {}
    for file in files:
        dataset = read_part10(file, Limits())
        key = blind_key(KEY, "instance", str(dataset.SOPInstanceUID))
        by_key[key] = file
        headers.append(Header(series_key="5e" * 16, instance_key=key, dataset=without_pixels(dataset)))
    chosen = analyst().select(headers).instance_keys
    copier = Copier(Deidentifier(AI, PSEUDONYMS), Limits())
    copies = [read_part10(copier.copy(by_key[key]), Limits()) for key in chosen]
    analysis = analyst().analyse(copies)
    results = analyst().encode(
        analysis,
        picture_of(analysis, analyst().words),
        identity=copier.identity,
        input_digest=input_digest([(key, key) for key in chosen]),
    )
    return read_part10(by_key[chosen[0]], Limits()), results


@pytest.mark.filterwarnings("ignore")
@FEW
@given(identity=IDENTITY, odd=ODD_SLICES)
@example(identity={}, odd={})
@example(identity={"PatientName": "山田^太郎", "StudyDescription": "ä Ł 홍"}, odd={0: ("StudyDescription", "another")})
def test_out_and_back_is_the_identity(identity: dict[str, str], odd: dict[int, tuple[str, str]]) -> None:
    files = written(identity, odd)
    source, results = worked_on(files)
    sources = [read_part10(file, Limits()) for file in files]
    ours = {
        str(one[keyword].value)
        for one in sources
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
    }
    pseudonyms = {PSEUDONYMS.uid(uid) for uid in ours}
    objects = {str(one.SOPInstanceUID) for one in sources} | {one.sop_instance_uid for one in results}
    assert {one.role for one in results} >= {ResultRole.SEGMENTATION, ResultRole.REPORT}
    for result in results:
        decoded = checks.decode(result.encoded)
        differing = [
            keyword
            for keyword in IDENTITY_KEYWORDS
            if keyword not in ("SpecificCharacterSet", "RequestAttributesSequence")
            and not checks.says_the_same(decoded, source, keyword)
        ]
        assert differing == []
        assert str(decoded.StudyInstanceUID) == str(source.StudyInstanceUID)
        assert {str(item.value) for item in decoded.iterall() if item.keyword == "ReferencedSOPInstanceUID"} <= objects
        data = bytes(result.encoded)
        assert [uid for uid in pseudonyms if uid.encode() in data] == []


@pytest.mark.filterwarnings("ignore")
@FEW
@given(order=st.permutations(range(16)), odd=ODD_SLICES)
@example(order=list(range(15, -1, -1)), odd={0: ("StudyDescription", "another"), 15: ("PatientWeight", "12")})
def test_order_of_instances_does_not_matter(order: list[int], odd: dict[int, tuple[str, str]]) -> None:
    """Also where the images do not agree on what a result copies: the same bytes, the same UIDs."""
    files = written({"PatientWeight": "70", "StudyDescription": "Thorax"}, odd)
    assert len(files) == len(order)
    _, expected = worked_on(files)
    _, results = worked_on([files[index] for index in order])
    assert [one.sop_instance_uid for one in results] == [one.sop_instance_uid for one in expected]
    assert [bytes(one.encoded) == bytes(two.encoded) for one, two in zip(results, expected, strict=True)] == [
        True
    ] * len(expected)


@pytest.mark.filterwarnings("ignore")
@FEW
@given(order=st.permutations(range(6)), odd=ODD_SLICES)
def test_copies_do_not_depend_on_what_came_before(order: list[int], odd: dict[int, tuple[str, str]]) -> None:
    """What a copier remembers of one image, to be quick, is in no copy of another."""
    files = written({}, odd)[:6]
    alone = [Copier(Deidentifier(AI, PSEUDONYMS), Limits()).copy(file) for file in files]
    copier = Copier(Deidentifier(AI, PSEUDONYMS), Limits())
    assert {index: copier.copy(files[index]) for index in order} == dict(enumerate(alone))
