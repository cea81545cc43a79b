"""Needles: what stands in bytes is found in every alphabet, and what is too short to tell anything is not looked for."""

from __future__ import annotations

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.identifiers import Identifiers
from dicomnode.deidentification.needles import Needles
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

NOTHING: frozenset[str] = frozenset()


def kinds(data: bytes, *names: str, dates: tuple[str, ...] = ()) -> list[str]:
    known = Identifiers(names=frozenset(names), codes=NOTHING, short=NOTHING, dates=NOTHING)
    return list(Needles(known, (), dates, ()).kinds(data))


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["kohl", "huber"])
def test_a_name_of_four_letters_in_every_alphabet(name: str, encoding: str) -> None:
    for written in (name, name.upper(), name.capitalize()):
        data = b"\1" + written.encode(encoding) + b"\1"  # with zeros beside it one order would be the other
        assert kinds(data, name) == ["name"]
        assert kinds(data, "fuchs") == []


@pytest.mark.parametrize(
    ("name", "encoding"), [("李明", "gbk"), ("山田", "shift_jis"), ("ли", "utf-8"), ("ко", "utf-16-be")]
)
def test_a_foreign_name_of_four_bytes(name: str, encoding: str) -> None:
    assert kinds(b"\1\0" + name.encode(encoding) + b"\0\0", name) == ["name"]


def test_what_is_shorter_is_chance() -> None:
    assert kinds(b" li ", "li") == kinds(b" koh ", "koh") == kinds("л".encode("utf-16-le"), "л") == []


@pytest.mark.parametrize("mark", ["", "-", "/", ".", " ", "_", ":", " - "])
def test_a_date_with_any_mark_between_its_parts(mark: str) -> None:
    for parts in (("1951", "02", "03"), ("03", "02", "1951"), ("02", "03", "1951")):
        assert kinds(b"(" + mark.join(parts).encode() + b")", dates=("19510203",)) == ["date"]
    assert kinds(b"(1951 .... 02 03)", dates=("19510203",)) == []


@pytest.mark.parametrize("policy", [AI, EXPORT], ids=["ai", "export"])
def test_a_technical_phrase_that_is_an_institution_holds_nothing_back(policy: Policy) -> None:
    ds = planted.slice_of_ct()
    ds.InstitutionName = ds.SoftwareVersions = "CT Head"
    assert Deidentifier(policy, Pseudonyms(bytes(range(32)), "project")).deidentify(ds).leaks == ()
