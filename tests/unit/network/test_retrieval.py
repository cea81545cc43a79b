"""What is taken of what a source sends: what was asked for, once, within its allowance."""

from __future__ import annotations

import pytest

from dicomnode.encoded import Limits, encode_dataset
from dicomnode.errors import NodeError, StorageError, StudyError
from dicomnode.network.retrieval import Allowance, Fetched, Taking, Wanted, identifier_of
from dicomnode.network.status import DATA_SET_MISMATCH, OUT_OF_RESOURCES, SUCCESS
from tests.unit.network.samples import EXPLICIT_LITTLE, SECONDARY_CAPTURE, small_object


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def taking(*uids: str, objects: int = 10, size: int = 100_000, fault: NodeError | None = None) -> Taking:
    def take(one: Fetched) -> None:
        if fault is not None:
            raise fault

    wanted = Wanted(
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        sop_instance_uids=uids,
        sop_classes=(SECONDARY_CAPTURE,),
    )
    allowance = Allowance(objects=objects, size=size, until=10.0, monotonic=Clock())
    return Taking(wanted, take, allowance=allowance, limits=Limits())


def offer(
    one: Taking, uid: str = "1.1", *, name: str | None = None, sop_class: str = SECONDARY_CAPTURE, **uids: str
) -> int:
    data = encode_dataset(small_object(uid, sop_class_uid=sop_class, **uids), EXPLICIT_LITTLE)
    return one.offer(sop_class, name or uid, EXPLICIT_LITTLE, data)


def test_what_was_asked_for_is_taken_once() -> None:
    one = taking()
    assert (offer(one), offer(one), offer(one, "1.2")) == (SUCCESS, DATA_SET_MISMATCH, SUCCESS)
    assert (one.taken, one.strange, one.is_over) == (2, 1, False)


@pytest.mark.parametrize(
    "other",
    [
        {"study_instance_uid": "9.9"},
        {"series_instance_uid": "9.9"},
        {"sop_class": "1.2.840.10008.5.1.4.1.1.2"},
        {"name": "1.9"},
    ],
)
def test_what_was_not_asked_for_is_strange(other: dict[str, str]) -> None:
    one = taking()
    assert offer(one, **other) == DATA_SET_MISMATCH  # type: ignore[arg-type]
    assert (one.taken, one.strange) == (0, 1)


def test_other_images_of_the_series_and_rubbish_are_strange() -> None:
    one = taking("1.1")
    assert offer(one, "1.2") == DATA_SET_MISMATCH
    assert one.offer(SECONDARY_CAPTURE, "1.1", EXPLICIT_LITTLE, b"rubbish") == DATA_SET_MISMATCH
    assert offer(one, "1.1") == SUCCESS


def test_no_more_than_the_allowance_is_taken() -> None:
    one = taking(objects=1)
    assert (offer(one), offer(one, "1.2"), offer(one, "1.3")) == (SUCCESS, OUT_OF_RESOURCES, OUT_OF_RESOURCES)
    assert (one.taken, one.exhausted, one.is_over) == (1, True, True)
    small = taking(size=100)
    assert offer(small) == OUT_OF_RESOURCES


def test_time_goes_by() -> None:
    clock = Clock()
    ended = False
    allowance = Allowance(objects=9, size=9_999, until=5.0, monotonic=clock, ended=lambda: ended)
    assert (allowance.seconds, allowance.use(1)) == (5.0, True)
    clock.now = 6.0
    assert (allowance.seconds, allowance.use(1)) == (0.0, False)
    clock.now, ended = 1.0, True
    assert allowance.seconds == 0.0


def test_a_fault_of_ours_ends_it() -> None:
    fault = StorageError("storage-full")
    one = taking(fault=fault)
    assert offer(one) == OUT_OF_RESOURCES == fault.dimse_status
    assert (str(one.fault), one.is_over, offer(one, "1.2")) == (str(fault), True, OUT_OF_RESOURCES)


def test_what_is_refused_for_what_it_is_costs_itself_alone_and_does_not_come_twice() -> None:
    refusal = StudyError("object-too-large")
    one = taking(fault=refusal)
    assert offer(one) == refusal.dimse_status
    assert offer(one) == DATA_SET_MISMATCH
    assert offer(one, "1.2") == refusal.dimse_status
    assert (one.fault, one.is_over, one.taken, one.kept) == (None, False, 0, set())
    assert {uid: str(error) for uid, error in one.refusals.items()} == {"1.1": str(refusal), "1.2": str(refusal)}


def test_what_comes_after_the_end_is_not_taken() -> None:
    one = taking()
    one.end()
    assert offer(one) == OUT_OF_RESOURCES
    assert one.taken == 0


def test_unique_keys_say_the_level() -> None:
    assert identifier_of(taking().wanted)["QueryRetrieveLevel"] == "SERIES"
    assert identifier_of(taking("1.1").wanted)["SOPInstanceUID"] == ["1.1"]
