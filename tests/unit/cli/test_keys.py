"""`dicomnode keys`: lists names and never keys, rotates, destroys with an audit, and says what it cannot do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.errors import ConfigError, KeyStoreError, StorageError
from dicomnode.storage import audit, database
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.lock import StateLock
from dicomnode.storage.objects import Objects
from dicomnode.study import Purpose, World, blind_key
from tests.killed_at_steps import KilledAtSteps

STUDY, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def state(tmp_path: Path) -> Path:
    ring = open_keys(tmp_path / "keys", create=True)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        objects = Objects(tmp_path / "objects", DataKeys(ledger, ring))
        for study in (STUDY, OTHER):
            for world in World:
                objects.put(study, world, "one", Purpose.COPY, b"content")
    return tmp_path


def run(state: Path, *words: str) -> str:
    result = CliRunner().invoke(app, ["keys", *words, "--state", str(state)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def read(state: Path, study: str, world: World) -> bytes:
    with Ledger.open(state / "ledger.sqlite") as ledger:
        return Objects(state / "objects", DataKeys(ledger, open_keys(state / "keys"))).get(
            study, world, "one", Purpose.COPY
        )


def test_list_names_keys_and_counts(state: Path) -> None:
    output = run(state, "list")
    assert output.count("present") == 2
    assert output.count("wraps 2 data keys") == 2
    for path in (state / "keys").iterdir():
        assert path.read_text().strip() not in output


def test_rotate_leaves_data_as_it_is(state: Path) -> None:
    files = {path: path.read_bytes() for path in (state / "objects").rglob("*") if path.is_file()}
    keys = {path.name: path.read_bytes() for path in (state / "keys").iterdir()}
    assert "identity 2 data keys" in run(state, "rotate")
    assert {path: path.read_bytes() for path in (state / "objects").rglob("*") if path.is_file()} == files
    changed = [name for name, data in keys.items() if (state / "keys" / name).read_bytes() != data]
    assert sorted(changed) == ["identity.key", "pseudonym.key"]
    assert read(state, STUDY, World.IDENTITY) == read(state, STUDY, World.PSEUDONYM) == b"content"


def test_destroy_takes_one_study_away_and_is_audited(state: Path) -> None:
    sealed = {path.read_bytes() for path in (state / "objects").rglob("*") if path.is_file()}
    with Ledger.open(state / "ledger.sqlite") as ledger:
        wrapped = [ledger.wrapped_key(STUDY, world) for world in World]
    run(state, "destroy", STUDY, "--yes")
    for world in World:
        with pytest.raises(KeyStoreError):
            read(state, STUDY, world)
        assert read(state, OTHER, world) == b"content"
    everything = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert not any(key.wrapped in everything for key in wrapped if key)
    assert len(sealed & {path.read_bytes() for path in (state / "objects").rglob("*") if path.is_file()}) == 2
    events = [json.loads(line)["event"] for line in (state / "audit.jsonl").read_text().splitlines()]
    assert events == ["study-destroying", "study-destroyed"]
    assert audit.verify(state)
    for unknown in (STUDY, "no key of ours"):
        with pytest.raises(ConfigError) as caught:
            run(state, "destroy", unknown, "--yes")
        assert caught.value.code == "study-not-found"


def test_destroy_takes_what_the_list_of_studies_shows_of_a_key(state: Path) -> None:
    """`dicomnode studies` shows sixteen letters; what stands for several studies, or for nearly any, destroys none."""
    other = STUDY[:16] + "b" * 48
    with Ledger.open(state / "ledger.sqlite") as ledger:
        DataKeys(ledger, open_keys(state / "keys")).get_or_create(other, World.IDENTITY)
    for given in (STUDY[:16], STUDY[:7], "b", "", "../../aaaaaaaa", "%aaaaaaaaaaaa"):
        with pytest.raises(ConfigError) as caught:
            run(state, "destroy", given, "--yes")
        assert caught.value.code == "study-not-found", given
    assert read(state, STUDY, World.IDENTITY) == b"content"
    assert f"destroyed study {OTHER}:" in run(state, "destroy", OTHER[:16], "--yes")
    with pytest.raises(KeyStoreError):
        read(state, OTHER, World.IDENTITY)
    lines = [json.loads(line) for line in (state / "audit.jsonl").read_text().splitlines()]
    assert [(line["event"], line["study_key"]) for line in lines] == [
        ("study-destroying", OTHER), ("study-destroyed", OTHER)
    ]  # fmt: skip
    assert lines[0]["uid"] == os.getuid(), "who"


def test_destroy_takes_a_study_instance_uid(state: Path) -> None:
    """What a person knows who asks for it; the keys are opened for that alone."""
    uid = "1.2.840.113619.2.55.3"
    study_key = blind_key(open_keys(state / "keys").derivation, "study", uid)
    with Ledger.open(state / "ledger.sqlite") as ledger:
        DataKeys(ledger, open_keys(state / "keys")).get_or_create(study_key, World.IDENTITY)
    assert f"destroyed study {study_key}:" in run(state, "destroy", uid, "--yes")
    with pytest.raises(ConfigError) as caught:
        run(state, "destroy", uid, "--yes")
    assert caught.value.code == "study-not-found"


def test_destroy_needs_no_key(state: Path) -> None:
    for path in (state / "keys").iterdir():
        path.unlink()
    run(state, "destroy", STUDY, "--yes")
    assert len(list((state / "objects").rglob("*.sealed"))) == 2


def test_destroy_does_not_say_so_while_a_reader_keeps_the_keys_on_the_disk(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite cannot move the deletion into the file while somebody reads the state before it."""
    monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 50)
    with Ledger.open(state / "ledger.sqlite") as ledger:
        wrapped = [ledger.wrapped_key(STUDY, world) for world in World]
    reader = sqlite3.connect(f"file:{state}/ledger.sqlite?mode=ro", uri=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM node_wrapped_key").fetchone()
    with pytest.raises(StorageError) as caught:
        run(state, "destroy", STUDY, "--yes")
    assert caught.value.code == "ledger-in-use"
    events = [json.loads(line)["event"] for line in (state / "audit.jsonl").read_text().splitlines()]
    assert events == ["study-destroying"]
    reader.close()
    run(state, "destroy", STUDY, "--yes")
    everything = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert not any(key.wrapped in everything for key in wrapped if key)


def test_destroy_leaves_no_row_in_the_file_whoever_has_it_open(state: Path) -> None:
    """The last one who closes it moves what was deleted into the file: with a program that looks on it stayed there."""
    with Ledger.open(state / "ledger.sqlite") as ledger:
        ledger.put_vault(STUDY, "series", 1, b"sealed words " * 40)
        ledger.put_vault(OTHER, "series", 1, b"other words " * 40)
    onlooker = sqlite3.connect(f"file:{state}/ledger.sqlite?mode=ro", uri=True)
    onlooker.execute("SELECT count(*) FROM node_vault").fetchall()
    run(state, "destroy", STUDY, "--yes")
    everything = b"".join(path.read_bytes() for path in state.glob("ledger.sqlite*"))
    assert b"other words" in everything
    assert b"sealed words" not in everything
    assert STUDY.encode() not in everything
    onlooker.close()


KILLED = """
import shutil
from pathlib import Path
from dicomnode.cli.options import read_config
from dicomnode.service import keeping
from dicomnode.storage import audit, files
from dicomnode.storage.ledger import Ledger
audit.append = counted(audit.append)
shutil.rmtree = counted(shutil.rmtree)
for name in ("shred_keys", "empty_journal", "purge_study"):
    setattr(Ledger, name, counted(getattr(Ledger, name)))
serve(lambda state, study: keeping.destroy_study(read_config(None, Path(state)), study))
"""


@pytest.mark.slow
def test_a_destruction_that_is_killed_anywhere_is_gone_on_with(
    state: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Ledger.open(state / "ledger.sqlite") as ledger:
        wrapped = [ledger.wrapped_key(STUDY, world) for world in World]
    killed = 0
    with KilledAtSteps(KILLED) as program:
        for step in range(1, 40):
            folder = tmp_path_factory.mktemp("killed") / "state"
            shutil.copytree(state, folder)
            ended = program.attempt(step, folder, STUDY)
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            killed += 1
            with contextlib.suppress(ConfigError):  # its last word was written
                run(folder, "destroy", STUDY[:16], "--yes")
            events = [json.loads(line)["event"] for line in (folder / "audit.jsonl").read_text().splitlines()]
            assert events[-1] == "study-destroyed", step
            everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
            assert not any(key.wrapped in everything for key in wrapped if key), step
            assert len(list((folder / "objects").rglob("*.sealed"))) == 2, step
            assert read(folder, OTHER, World.IDENTITY) == b"content"
    assert ended == 0
    assert killed >= 12


def test_destroy_asks(state: Path) -> None:
    result = CliRunner().invoke(app, ["keys", "destroy", STUDY, "--state", str(state)], input="n\n")
    assert result.exit_code == 1
    assert read(state, STUDY, World.IDENTITY) == b"content"


@pytest.mark.parametrize("words", [("rotate",), ("destroy", STUDY, "--yes")])
def test_a_running_node_is_left_alone(state: Path, words: tuple[str, ...]) -> None:
    with StateLock(state), pytest.raises(ConfigError) as caught:
        run(state, *words)
    assert caught.value.code == "node-running"


def test_export_public_where_the_keys_come_from_a_program(state: Path, tmp_path: Path) -> None:
    kept = state / "kept"
    (state / "keys").rename(kept)
    settings = state / "settings.toml"
    settings.write_text(f'[keys]\nsource = "command"\ncommand = ["{sys.executable}", "{state}/hook.py"]\n')
    body = f"import pathlib, sys; print(pathlib.Path({str(kept)!r}, sys.argv[1] + '.key').read_text(), end='')"
    (state / "hook.py").write_text(body)
    certificate = run(state, "export-public", "--config", str(settings))
    assert certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert sorted(path.name for path in (state / "keys").iterdir()) == ["reidentify.key", "reidentify.pem"]
    assert (state / "keys").stat().st_mode & 0o777 == 0o700


def test_rotation_of_the_keys_of_a_program(state: Path) -> None:
    """They are made and put in place by hand; until then both open, and without new ones nothing begins."""
    kept = state / "kept"
    (state / "keys").rename(kept)
    settings = state / "settings.toml"
    settings.write_text(f'[keys]\nsource = "command"\ncommand = ["{sys.executable}", "{state}/hook.py"]\n')
    body = f"import pathlib, sys; print(pathlib.Path({str(kept)!r}, sys.argv[1] + '.key').read_text(), end='')"
    (state / "hook.py").write_text(body)
    with pytest.raises(KeyStoreError) as caught:
        run(state, "rotate", "--config", str(settings))
    assert caught.value.code == "key-missing"
    for world in World:
        (kept / f"{world.value}.next.key").write_text(os.urandom(32).hex())
    said = run(state, "rotate", "--config", str(settings))
    assert "identity 2 data keys" in said
    assert "identity.next" in said, "what is left to do"
    assert "keys folder" not in said, "there is none"
    assert run(state, "list", "--config", str(settings)).count("following wraps 2 data keys") == 2
    for world in World:
        (kept / f"{world.value}.next.key").replace(kept / f"{world.value}.key")
    assert run(state, "list", "--config", str(settings)).count("present   wraps 2 data keys") == 2


def test_without_a_ledger_nothing_is_destroyed(state: Path) -> None:
    (state / "spool" / "ab").mkdir(parents=True)
    for path in state.glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(StorageError) as caught:
        run(state, "destroy", STUDY, "--yes")
    assert caught.value.code == "ledger-missing"
    assert run(state, "list").count("wraps 0 data keys") == 2


def test_export_public_prints_a_certificate(state: Path) -> None:
    assert run(state, "export-public").startswith("-----BEGIN CERTIFICATE-----")
    assert run(state, "export-public") == (state / "keys" / "reidentify.pem").read_text()


def test_a_new_token_fits_its_hash_and_is_another_each_time() -> None:
    def made() -> tuple[str, str]:
        result = CliRunner().invoke(app, ["keys", "new-token"], catch_exceptions=False)
        token, hashed = result.output.splitlines()
        return token.split()[1], hashed

    (one, hashed), (other, _) = made(), made()
    assert one != other
    assert len(one) == 43
    assert hashed == f'token_sha256 = ["{hashlib.sha256(one.encode()).hexdigest()}"]'
