from __future__ import annotations

import pytest

from dicomnode.events import ALLOWED, Event, Fact, admit, silent


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("study", "ab" * 16),
        ("work", f"{'ab' * 16}-12-ct-lung"),
        ("reason", "geometry-gap"),
        ("address", "fe80::1"),
        ("calling_ae_title", "CT 1"),
        ("engine", "onnxruntime-cpu fp32"),
        ("any_number", 7),
        ("seconds", 0.5),
        ("aborted", True),
        ("reason", None),
    ],
)
def test_keys_codes_and_numbers_pass(name: str, fact: Fact) -> None:
    assert admit({name: fact}) == {name: fact}


@pytest.mark.parametrize(
    ("name", "fact"),
    [
        ("patient", "ok"),
        ("study", "1.2.840.113619.2.55"),
        ("study", "Mueller"),
        ("reason", "Mueller^Juergen"),
        ("model", "two words"),
        ("calling_ae_title", "x" * 17),
        ("calling_ae_title", "a\\b"),
        ("text", "line\nbreak"),
        ("text", "ü"),
        ("address", "hospital.example"),
        ("work", f"{'ab' * 16}-x"),
    ],
)
def test_anything_else_is_withheld_and_seen_to_be(name: str, fact: Fact) -> None:
    assert admit({name: fact}) == {name: "withheld"}


def test_no_form_admits_a_uid_where_a_key_belongs() -> None:
    for name in ("study", "series", "work", "result", "association", "segment"):
        assert not ALLOWED[name].fullmatch("1.2.840.10008.1.2")


def test_an_emitter_that_nobody_listens_to_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent("node.ready", level="error", study="x")
    assert capsys.readouterr() == ("", "")
    assert Event("node.ready", "info", {}).name == "node.ready"
