"""OHIF 3.13 loses its whole page over a document with an item that has no concept name (PS3.3 C.17.3: images need none)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom import Dataset

from dicomnode.forms import Form, Variant
from dicomnode.results import checks
from dicomnode.results.encode import encode_outcome, encode_results
from dicomnode.study import ResultRole
from tests.unit.results import material


def items_of(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence") or ():
        yield item
        yield from items_of(item)


def documents() -> dict[str, bytes]:
    originals = material.source_series()
    context, identity = material.context_for(), material.identity_of(originals)
    report = Variant(role=ResultRole.REPORT, form=Form.BASIC_TEXT)
    outcome = Variant(role=ResultRole.OUTCOME, form=Form.BASIC_TEXT)
    made = {"report": encode_results(material.input_for(originals, variants=(report,)), context, identity)}
    for code in ("nothing-found", "pixel-missing"):
        header = material.copies(originals[:1])[0]
        made[code] = encode_outcome(code, header, material.findings_for(), context, identity, variants=(outcome,))
    return {name: bytes(results[0].encoded) for name, results in made.items()}


@pytest.mark.parametrize("kind", ["report", "nothing-found", "pixel-missing"])
def test_every_item_of_a_text_document_has_a_name(kind: str) -> None:
    items = list(items_of(checks.decode(documents()[kind])))
    assert "IMAGE" in {item.ValueType for item in items}
    assert [item.ValueType for item in items if not item.get("ConceptNameCodeSequence")] == []
