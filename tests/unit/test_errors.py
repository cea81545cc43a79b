from __future__ import annotations

import pickle
import re

import pytest

from dicomnode import errors
from dicomnode.config import Config
from dicomnode.errors import REASONS, ConfigError, NodeError, PeerError, PeerRefusal, StorageError, StudyError


def families() -> list[type[NodeError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NodeError)]


@pytest.mark.parametrize("code", REASONS)
def test_every_code_says_what_happened_and_what_to_do(code: str) -> None:
    reason = REASONS[code]
    for text in reason:
        assert text
        assert text.isprintable()
        assert not text.endswith(".")
    assert str(NodeError(code)) == f"{code}: {reason.text}"


@pytest.mark.parametrize("kind", families())
def test_every_error_survives_a_pickle_whole(kind: type[NodeError]) -> None:
    error = kind("storage-full", bytes=7, stage="prepare", share=0.5)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code, again.facts, str(again)) == (kind, error.code, error.facts, str(error))
    assert again.retryable is kind.retryable
    assert 0 < kind.dimse_status <= 0xFFFF


def test_a_message_holds_the_code_the_text_and_the_numbers() -> None:
    error = StudyError("geometry-gap", slices=3, gap_mm=2.5)
    assert str(error) == "geometry-gap: slices are missing in the middle of the series (slices 3, gap_mm 2.5)"
    assert error.reason is REASONS["geometry-gap"]


@pytest.mark.parametrize("fact", ["Mueller^Juergen", "two words", "", "1.2.840.10008", "x" * 49, "ä", "a\n"])
def test_a_fact_that_could_be_a_name_or_a_uid_is_refused(fact: str) -> None:
    with pytest.raises(ValueError, match="no token") as caught:
        StudyError("object-malformed", what=fact)
    assert not fact or fact not in str(caught.value)


def test_a_code_that_is_not_in_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown code"):
        NodeError("no-such-code")


def test_who_may_try_again() -> None:
    assert [kind.retryable for kind in (PeerError, PeerRefusal, StudyError, StorageError, ConfigError)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert (StudyError.dimse_status, StorageError.dimse_status) == (0xC000, 0xA700)


def test_every_setting_that_a_reason_names_exists() -> None:
    files = {"ledger.sqlite", "outcome.json"}
    named: set[str] = set()
    for text in (part for reason in REASONS.values() for part in reason):
        named |= set(re.findall(r"[a-z_]*[a-z]\.[a-z][a-z_]*", text)) | set(re.findall(r"\[[a-z]+\]", text))
    named = {one.lstrip("_") for one in named} - files
    assert len(named) >= 3
    for one in named:
        section, _, setting = one.strip("[]").partition(".")
        assert section in Config.model_fields, one
        assert not setting or setting in (Config.model_fields[section].annotation or type).model_fields, one
