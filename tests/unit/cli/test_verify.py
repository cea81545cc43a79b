"""`dicomnode verify`: a flipped bit or a lost segment of what was indexed is found, named and set aside, by whoever asks."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.errors import ConfigError, StorageError
from dicomnode.storage import audit
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.lock import StateLock
from dicomnode.storage.spool import Spool
from dicomnode.study import RecordAddress
from dicomnode.workflow.indexing import row_of
from tests.unit.storage.samples import OTHER_STUDY, STUDY, encoded, intake, metadata

COUNT = 4


@pytest.fixture
def received(tmp_path: Path) -> dict[str, list[RecordAddress]]:
    """Two studies, received and indexed."""
    ring = open_keys(tmp_path / "keys", create=True)
    addresses: dict[str, list[RecordAddress]] = {STUDY: [], OTHER_STUDY: []}
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        spool = Spool(tmp_path / "spool", intake(), DataKeys(ledger, ring))
        for number in range(COUNT):
            data = encoded(number)
            about = metadata(data, number)
            for study, places in addresses.items():
                places.append(spool.append(study, about, data))
                ledger.record_instances([row_of(ring.derivation, study, places[-1], about)])
        spool.close()
    return addresses


def verify(state: Path, status: int, *more: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["verify", "--json", "--state", str(state), *more], catch_exceptions=False)
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def segment_of(state: Path, address: RecordAddress) -> Path:
    (path,) = (state / "spool").rglob(f"{address.segment_id}.*")
    return path


def flip(path: Path, byte: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[byte] ^= 4
    path.write_bytes(changed)


def quarantined(state: Path, study: str) -> list[tuple[int, str]]:
    with Ledger.open(state / "ledger.sqlite") as ledger:
        return [(row.address.number, row.reason) for row in ledger.quarantined(study) if row.address is not None]


def test_what_is_whole_is_counted(tmp_path: Path, received: dict[str, list[RecordAddress]]) -> None:
    assert verify(tmp_path, 0) == {"whole": {STUDY: COUNT, OTHER_STUDY: COUNT}, "faults": [], "audit_line": None}
    output = CliRunner().invoke(app, ["verify", "--state", str(tmp_path)]).output
    assert f"{2 * COUNT} records of 2 studies are whole." in output


@pytest.mark.parametrize("number", [0, 2, COUNT - 1])
def test_a_flipped_bit_is_named_and_set_aside_once(
    tmp_path: Path, received: dict[str, list[RecordAddress]], number: int
) -> None:
    address = received[STUDY][number]
    flip(segment_of(tmp_path, address), address.offset + 200)
    for _ in range(2):
        found = verify(tmp_path, 1)
        assert [(one["study"], one["segment"], one["record"], one["reason"]) for one in found["faults"]] == [
            (STUDY, address.segment_id, number, "sealed-damaged")
        ]
        assert found["whole"] == {STUDY: COUNT - 1, OTHER_STUDY: COUNT}
        assert quarantined(tmp_path, STUDY) == [(number, "sealed-damaged")]
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:  # as `dicomnode studies` shows it
            counts = {row.study_key: (row.instances, row.quarantined) for row in ledger.studies()}
        assert counts == {STUDY: (COUNT - 1, 1), OTHER_STUDY: (COUNT, 0)}
    assert quarantined(tmp_path, OTHER_STUDY) == []
    result = CliRunner().invoke(app, ["verify", "--state", str(tmp_path)])
    assert result.exit_code == 1
    assert f"segment {address.segment_id} record {number}" in result.output


def test_what_is_input_in_the_place_of_a_damaged_record_is_named(
    tmp_path: Path, received: dict[str, list[RecordAddress]]
) -> None:
    """Also by whoever asks again; of what has nothing whole in its place, nothing is said."""
    ring = open_keys(tmp_path / "keys")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        spool = Spool(tmp_path / "spool", intake(), DataKeys(ledger, ring))
        about = metadata(encoded(1), 1)
        again = spool.append(STUDY, about, encoded(1))
        ledger.record_instances([row_of(ring.derivation, STUDY, again, about)])
        spool.close()
    for number in (1, 2):
        address = received[STUDY][number]
        flip(segment_of(tmp_path, address), address.offset + 200)
    for _ in range(2):
        instead = [one["instead"] for one in verify(tmp_path, 1)["faults"]]
        assert instead == [{"segment": again.segment_id, "record": again.number}, None]
        output = CliRunner().invoke(app, ["verify", "--state", str(tmp_path)]).output
        assert output.count("in its place") == 1
        assert f"in its place: segment {again.segment_id} record {again.number}, the same object" in output


def test_the_last_record_of_an_open_segment_is_no_torn_one_where_the_index_knows_it(
    tmp_path: Path, received: dict[str, list[RecordAddress]]
) -> None:
    address = received[STUDY][-1]
    closed = segment_of(tmp_path, address)
    closed.write_bytes(closed.read_bytes()[: address.offset + 100])
    closed.rename(closed.with_suffix(".open"))
    assert [one["record"] for one in verify(tmp_path, 1)["faults"]] == [COUNT - 1]


def test_a_segment_that_is_gone_is_named_record_by_record(
    tmp_path: Path, received: dict[str, list[RecordAddress]]
) -> None:
    segment_of(tmp_path, received[STUDY][0]).unlink()
    found = verify(tmp_path, 1)
    assert [one["record"] for one in found["faults"]] == list(range(COUNT))
    assert found["whole"] == {OTHER_STUDY: COUNT}
    assert [number for number, _ in quarantined(tmp_path, STUDY)] == list(range(COUNT))


def test_a_spool_that_is_not_mounted_is_not_judged_unless_it_is_said_to_be_lost(
    tmp_path: Path, received: dict[str, list[RecordAddress]]
) -> None:
    verify(tmp_path, 0)
    (tmp_path / "spool").rename(tmp_path / "disk")
    with pytest.raises(StorageError, match="spool-missing"):
        verify(tmp_path, 1)
    assert quarantined(tmp_path, STUDY) == []
    found = verify(tmp_path, 1, "--lost-spool", "--yes")
    assert len(found["faults"]) == 2 * COUNT
    assert len(quarantined(tmp_path, STUDY)) == COUNT
    assert len(verify(tmp_path, 1)["faults"]) == 2 * COUNT
    audit = tmp_path / "audit.jsonl"
    assert audit.read_text().count('"spool-accepted"') == 1
    verify(tmp_path, 1, "--lost-spool", "--yes")
    assert audit.read_text().count('"spool-accepted"') == 1, "it has its name already"


def test_before_a_spool_is_given_up_somebody_is_asked(tmp_path: Path, received: dict[str, list[RecordAddress]]) -> None:
    """Also where nobody can answer: nothing is judged. The question is no part of what is printed for machines."""
    (tmp_path / "spool").rename(tmp_path / "disk")
    words = ["verify", "--json", "--lost-spool", "--state", str(tmp_path)]
    for answer in ("", "n\n", "\n"):
        asked = CliRunner().invoke(app, words, input=answer)
        assert asked.exit_code == 1
        assert f"is not in {tmp_path / 'spool'} now?" in asked.stderr
        assert "spool" not in asked.stdout
    assert quarantined(tmp_path, STUDY) == []
    assert not (tmp_path / "audit.jsonl").exists()
    agreed = CliRunner().invoke(app, words, input="y\n")
    assert len(json.loads(agreed.stdout.partition("\n")[2])["faults"]) == 2 * COUNT


def test_a_study_whose_key_is_gone_is_told_once(tmp_path: Path, received: dict[str, list[RecordAddress]]) -> None:
    ring = open_keys(tmp_path / "keys")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        DataKeys(ledger, ring).shred(STUDY)
    assert [(one["study"], one["reason"]) for one in verify(tmp_path, 1)["faults"]] == [(STUDY, "key-missing")]


def test_a_node_that_runs_is_left_alone(tmp_path: Path, received: dict[str, list[RecordAddress]]) -> None:
    with StateLock(tmp_path), pytest.raises(ConfigError, match="node-running"):
        CliRunner().invoke(app, ["verify", "--state", str(tmp_path)], catch_exceptions=False)


def test_an_audit_trail_that_was_changed_is_found(tmp_path: Path, received: object) -> None:
    for number in range(3):
        audit.append(tmp_path, "order-retry", datetime(2026, 3, 1, number, tzinfo=UTC), study_key=STUDY)
    assert verify(tmp_path, 0)["audit_line"] is None
    path = tmp_path / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join((lines[0], lines[2])))
    assert verify(tmp_path, 1)["audit_line"] == 1
    plain = CliRunner().invoke(app, ["verify", "--state", str(tmp_path)], catch_exceptions=False)
    assert "audit.jsonl line 2" in plain.output
