"""A mould gives back what it was made of, with other values and the lengths that follow; nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicomnode.encoded import encode_dataset
from dicomnode.results.mould import Mould

EXPLICIT = "1.2.840.10008.1.2.1"
UID, TEXT = int(Tag("ReferencedSOPInstanceUID")), int(Tag("PatientComments"))


def of(uid: str, text: str, *, more: int = 0) -> Dataset:
    """Values at three depths, among others."""
    whole, item, inner = Dataset(), Dataset(), Dataset()
    inner.ReferencedSOPInstanceUID = uid
    inner.Modality = "CT"
    item.ReferencedSOPSequence = [inner]
    item.PatientComments = text
    item.Rows = 3
    whole.PatientComments = text
    whole.SourceImageSequence = [item] * (1 + more)
    whole.ReferencedSeriesSequence = [Dataset()]
    whole.ReferencedSeriesSequence[0].Modality = "SEG"
    return whole


def encoded(dataset: Dataset) -> bytes:
    return encode_dataset(dataset, EXPLICIT)


@settings(deadline=None, max_examples=40)
@given(
    uids=st.tuples(*[st.from_regex(r"\A[1-9][0-9]{0,9}(\.[1-9][0-9]{0,9}){1,3}\Z")] * 2),
    texts=st.tuples(*[st.text("abc ", max_size=30).map(lambda text: text + "z")] * 2),
    more=st.integers(0, 2),
)
def test_other_values_give_the_bytes_of_an_object_that_has_them(
    uids: tuple[str, str], texts: tuple[str, str], more: int
) -> None:
    mould = Mould.of(encoded(of(uids[0], texts[0], more=more)), {UID, TEXT})
    for uid, text in zip(uids, texts, strict=True):
        assert mould.fill({UID: uid.encode(), TEXT: text.encode()}) == encoded(of(uid, text, more=more))


def test_a_sequence_gets_as_many_items_as_there_are_values() -> None:
    def listed(*uids: str) -> bytes:
        whole, series = Dataset(), Dataset()
        whole.SourceImageSequence = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPInstanceUID = uid
            whole.SourceImageSequence.append(item)
        series.Modality = "CT"
        series.ReferencedInstanceSequence = list(whole.SourceImageSequence)
        whole.ReferencedSeriesSequence = [series]
        return encoded(whole)

    mould = Mould.of(listed("1.2", "1.3"), {UID})
    for uids in (("1.2", "1.3"), ("1.2.345",), ("1.2", "1.3.4", "1.5", "1.6.77")):
        assert mould.fill_many([{UID: uid.encode()} for uid in uids]) == listed(*uids)


def test_what_is_no_item_cannot_be_there_many_times() -> None:
    with pytest.raises(ValueError, match="no item"):
        Mould.of(encoded(of("1.2", "a")), {TEXT}).fill_many([{TEXT: b"a"}])


def test_what_nothing_is_left_open_in_stays_as_it_is() -> None:
    whole = encoded(of("1.2", "a"))
    assert not Mould.of(whole, set()).is_open
    assert Mould.of(whole, set()).fill({}) == whole
    assert Mould.of(b"", {UID}).fill({}) == b""


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_bytes_that_are_no_elements(cut: int) -> None:
    whole = encoded(of("1.2.3", "abc"))
    with pytest.raises(ValueError, match=r"no element|beyond the end|no item"):
        Mould.of(whole[:-cut], {UID})


def test_a_sequence_of_unsaid_length_is_no_mould() -> None:
    dataset = of("1.2.3", "abc")
    dataset["SourceImageSequence"].is_undefined_length = True
    with pytest.raises(ValueError, match="beyond the end"):
        Mould.of(encoded(dataset), {UID})
