"""ISO 2022 IR 58 and IR 149, as PS3.5 Annexes I and K write them and as writers forget them: names are known and go, words stay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.leakcheck import find_leaks
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.values import decoded, encodings_of
from dicomnode.encoded import Limits, read_part10
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import of_character_set

CHINESE, KOREAN = ["", "ISO 2022 IR 58"], ["", "ISO 2022 IR 149"]
PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")


def korean(text: str) -> bytes:
    return (
        planted.in_chinese(text).replace(b"\x1b$)A", b"\x1b$)C")
        if text.isascii()
        else b"\x1b$)C" + text.encode("euc_kr")
    )


def chinese(text: str) -> bytes:
    return b"\x1b$)A" + text.encode("gb2312")


@pytest.mark.parametrize(
    ("raw", "terms", "text"),
    [
        (b"Wang^XiaoDong=" + chinese("王") + b"^" + chinese("小东") + b"=", CHINESE, "Wang^XiaoDong=王^小东="),
        (b"Zhang^XiaoDong=" + chinese("张^小东="), CHINESE, "Zhang^XiaoDong=张^小东="),  # one escape for all
        (b"CT " + chinese("胸部"), CHINESE, "CT 胸部"),
        ("CT 胸部".encode("gb2312"), CHINESE, "CT 胸部"),  # none at all
        (chinese("胸部"), ["ISO 2022 IR 58"], "胸部"),
        (b"\x1b$)A" + "朱镕基".encode("gb18030"), CHINESE, "朱镕基"),  # a sign that the set lacks
        (b"Hong^Gildong=" + korean("洪") + b"^" + korean("吉洞"), KOREAN, "Hong^Gildong=洪^吉洞"),
        (b"Hong^Gildong=" + korean("洪^吉洞=홍^길동"), KOREAN, "Hong^Gildong=洪^吉洞=홍^길동"),
        ("흉부 CT".encode("euc_kr"), KOREAN, "흉부 CT"),
        (b"J\xe4ger=" + chinese("张") + b"=J\xe4ger", ["ISO 2022 IR 100", "ISO 2022 IR 58"], "Jäger=张=Jäger"),
        (b"J\xe4ger=" + korean("홍") + b"=J\xe4ger", ["ISO 2022 IR 100", "ISO 2022 IR 149"], "Jäger=홍=Jäger"),
        (b"\x1b-AJ\xe4ger " + chinese("张"), ["", "ISO 2022 IR 100", "ISO 2022 IR 58"], "Jäger 张"),
        ("Wałęsa".encode("iso8859-2"), ["", "ISO 2022 IR 101"], "Wałęsa"),
        (b"CT \xff\xff" + chinese("张"), CHINESE, "CT ÿÿ张"),
        (b"\x1b$)A\xff\xff", CHINESE, "ÿÿ"),
    ],
)  # fmt: skip
def test_texts_are_what_was_written(raw: bytes, terms: list[str], text: str) -> None:
    assert decoded(raw, encodings_of(terms)) == text


def with_texts(make: Callable[[], planted.Planted], **texts: str) -> bytes:
    ds = make().dataset
    for keyword, text in texts.items():
        setattr(ds, keyword, text)
    return planted.encoded(ds)


def make_chinese() -> planted.Planted:
    return of_character_set(CHINESE, "Wang^XiaoDong=王^小东=", "王小东")()  # type: ignore[return-value]


def test_the_planted_object_has_its_escapes() -> None:
    assert with_texts(make_chinese).count(b"\x1b$)A") > 5  # as pydicom writes it, it has none


@pytest.mark.parametrize("base", [AI, EXPORT], ids=["ai", "export"])
def test_names_go_where_an_option_keeps_texts_and_words_of_the_house_stay(base: Policy) -> None:
    policy = Policy(name=base.name, options=base.options | {Option.INSTITUTION, Option.DEVICE})
    data = with_texts(
        make_chinese, InstitutionName="北京协和医院", InstitutionalDepartmentName="王小东诊所", StationName="小东 CT",
        StudyDescription="胸部 CT", SeriesDescription="胸部平扫",
    )  # fmt: skip
    done = Deidentifier(policy, PSEUDONYMS).deidentify(read_part10(data, Limits()))
    assert not done.leaks
    said = str(done.dataset)
    assert "\x1b" not in said
    assert not any(name in said for name in ("小东", "Xiao", "王"))
    assert (done.dataset.InstitutionName, done.dataset.StudyDescription) == ("北京协和医院", "胸部 CT")


@pytest.mark.parametrize("terms", ["ISO_IR 192", "GB18030"])
@pytest.mark.parametrize("name", ["王小东", "王 小东"])
def test_the_leak_check_knows_the_name(terms: str, name: str) -> None:
    source = read_part10(with_texts(make_chinese), Limits())
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset
    assert not find_leaks(source, output)
    output.SpecificCharacterSet, output.SeriesDescription = terms, f"CT {name}"
    told = read_part10(planted.encoded(output), Limits())
    assert {leak.kind for leak in find_leaks(source, told)} == {"name"}
