from __future__ import annotations

from typing import Any

import pytest
from pydicom import DataElement, Dataset
from pydicom.datadict import tag_for_keyword

from dicomnode.config import Config
from dicomnode.encoded import Limits, SeriesReader, encode_part10, read_part10, series_of
from dicomnode.study import mint_uid
from dicomnode.workflow.provenance import Guard, guard_of
from tests.unit.workflow.samples import KEY

GUARD = Guard(device_uid="2.25.9", ai_equipment=("^acme", r"lungnet \d"), maximum_hops=3)
PROCESSING = ("109102", "DCM", "Processing Equipment")


def code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def image(**attributes: Any) -> Dataset:
    dataset = Dataset()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer, dataset.ManufacturerModelName = "Scanner Works", "CT 3000"
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def step(purpose: tuple[str, str, str] = PROCESSING, **attributes: Any) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [code(*purpose)]
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item


OWN = {"Manufacturer": "dicomnode project", "ManufacturerModelName": "dicomnode"}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ImageType": ["DERIVED", "SECONDARY", "MPR"], "DerivationDescription": "Airway, oblique MPR"},
        {"DerivationDescription": "deep learning reconstruction"},  # by the scanner itself
        {"ImageType": "DERIVED", "DerivationCodeSequence": [code("113072", "DCM", "Multiplanar reformatting")]},
        {"ContributingEquipmentSequence": [step(("109104", "DCM", "De-identifying Equipment"), **OWN)]},
        {"ContributingEquipmentSequence": [step(), step()]},
        {"ContributingEquipmentSequence": [step(("109103", "DCM", "Modifying Equipment")) for _ in range(9)]},
        {"ContributingEquipmentSequence": None},
        {"ContributingEquipmentSequence": []},
        {"DeviceUID": "2.25.99"},
        {"ImageType": None},
    ],
)
def test_what_scanners_make_is_worked_on(attributes: dict[str, Any]) -> None:
    assert GUARD.refusal(image(**attributes)) is None


@pytest.mark.parametrize(
    "attributes",
    [
        OWN,
        {**OWN, "Manufacturer": "DICOMNODE PROJECT "},
        {"DeviceUID": "2.25.9"},
        {"ContributingEquipmentSequence": [step(), step(**OWN)]},
        {"ContributingEquipmentSequence": [step(DeviceUID="2.25.9")]},
    ],
)
def test_what_this_node_or_another_one_made_is_not(attributes: dict[str, Any]) -> None:
    assert GUARD.refusal(image(**attributes)) == "own-output"
    assert Guard(device_uid="2.25.9", refuses_ai=False).refusal(image(**attributes)) == "own-output"


@pytest.mark.parametrize(
    "attributes",
    [
        {"ImageType": ["DERIVED", "PRIMARY", "AI"]},
        {"ImageType": ["DERIVED", "PRIMARY"], "DerivationDescription": "Denoised by Deep Learning"},
        {"ImageType": ["DERIVED", "PRIMARY"], "DerivationDescription": "AI denoising"},
        {"ImageType": ["DERIVED"], "DerivationCodeSequence": [code("123110", "DCM", "Artificial Intelligence")]},
        {"ImageType": ["DERIVED"], "DerivationCodeSequence": [code("1", "99ACME", "neural network upsampling")]},
        {"Manufacturer": "ACME Imaging"},
        {"ManufacturerModelName": "LungNet 3"},
        {"SoftwareVersions": ["1.0", "lungnet 2"]},
        {"ContributingEquipmentSequence": [step(Manufacturer="Acme")]},
    ],
)
def test_what_another_ai_made_is_not_unless_the_site_wants_it(attributes: dict[str, Any]) -> None:
    assert GUARD.refusal(image(**attributes)) == "ai-output"
    assert Guard(device_uid="2.25.9", refuses_ai=False, ai_equipment=("acme",)).refusal(image(**attributes)) is None


def test_what_was_processed_too_often_goes_round_and_is_stopped() -> None:
    assert GUARD.refusal(image(ContributingEquipmentSequence=[step() for _ in range(3)])) == "too-many-hops"


def test_an_endless_sequence_is_looked_at_no_further_than_its_beginning() -> None:
    items = [step(("109103", "DCM", "Modifying Equipment")) for _ in range(64)]
    assert GUARD.refusal(image(ContributingEquipmentSequence=[*items, step(**OWN)])) is None


def test_the_configuration_says_what_it_knows() -> None:
    tree = Config.model_validate({"loop_guard": {"ai_output": "take", "ai_equipment": ["acme"], "maximum_hops": 2}})
    assert guard_of(tree, KEY) == Guard(
        device_uid=mint_uid(KEY, "device"), refuses_ai=False, ai_equipment=("acme",), maximum_hops=2
    )
    assert guard_of(Config(), KEY).refuses_ai


@pytest.mark.parametrize(("vr", "value"), [("US", 7), ("SQ", [Dataset()]), ("OB", b"\x00AI"), ("FL", 1.5), ("LO", "")])
@pytest.mark.parametrize(
    "keyword",
    [
        "ImageType",
        "Manufacturer",
        "DeviceUID",
        "ContributingEquipmentSequence",
        "DerivationCodeSequence",
        "SoftwareVersions",
    ],
)
def test_values_of_kinds_that_are_not_theirs_break_nothing(keyword: str, vr: str, value: Any) -> None:
    odd = image(DerivationDescription="x")
    odd[keyword] = DataElement(tag_for_keyword(keyword) or 0, vr, value)
    assert GUARD.refusal(odd) is None


def test_images_of_one_series_are_told_as_each_alone() -> None:
    reader, made, others = SeriesReader(Limits()), list[Dataset](), list[Dataset]()
    for index in range(12):
        attributes = OWN if index in (5, 6) else {"DerivationDescription": "AI", "ImageType": "DERIVED"}
        one = image(**(attributes if index in (5, 6, 9) else {}))
        one.SOPClassUID, one.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.{index}"
        file = encode_part10(one, transfer_syntax_uid="1.2.840.10008.1.2.1")
        made.append(reader.read(file))
        others.append(read_part10(file, Limits()))
    assert len({id(series_of(one, ())) for one in made[1:5]}) == 1
    for one in (made[3], others[3]):
        one.Manufacturer, one.ManufacturerModelName = OWN["Manufacturer"], OWN["ManufacturerModelName"]
    alone = [GUARD.refusal(one) for one in others]
    asked: list[Dataset] = []
    guard = Noting(asked)
    assert guard.refusals(made) == alone
    assert [index for index, refusal in enumerate(alone) if refusal] == [3, 5, 6, 9]
    assert len(asked) < len(made), "those that say the same are looked at once"


class Noting(Guard):
    """Notes whom it looks at."""

    def __init__(self, asked: list[Dataset]) -> None:
        super().__init__(device_uid="2.25.9", ai_equipment=("^acme", r"lungnet \d"), maximum_hops=3)
        object.__setattr__(self, "asked", asked)

    def refusal(self, header: Dataset) -> str | None:
        self.asked.append(header)  # type: ignore[attr-defined]
        return Guard.refusal(self, header)
