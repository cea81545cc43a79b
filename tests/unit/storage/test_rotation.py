"""Rotation, keys from a program, and the trail: what is wrapped anew, broken off, gone on with, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.cli.options import read_config
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.service.keeping import rotate_keys
from dicomnode.storage import audit, recipients
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keyhook import open_command
from dicomnode.storage.keys import KeyRing, adopt_following, make_following, open_credentials, open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rotation import rotate
from dicomnode.study import World
from tests.unit.storage.samples import at

STUDIES = [f"{number:064x}" for number in range(450)]


def filled(folder: Path, count: int = 450) -> dict[tuple[str, World], bytes]:
    """Data keys of many studies, as the ledger holds them wrapped."""
    ring = open_keys(folder / "keys", create=True)
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, ring)
        wanted = [(study, world) for study in STUDIES for world in World][:count]
        return {(study, world): keys.get_or_create(study, world).key for study, world in wanted}


def opened(folder: Path, count: int = 450) -> dict[tuple[str, World], bytes]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, open_keys(folder / "keys"), cached=1)
        found = {}
        for study in STUDIES[: count // 2]:
            for world in World:
                if ledger.wrapped_key(study, world):
                    found[study, world] = keys.get(study, world).key
        return found


def test_every_key_is_wrapped_anew_and_the_old_one_opens_none(tmp_path: Path) -> None:
    before = filled(tmp_path)
    old = open_keys(tmp_path / "keys")
    assert make_following(tmp_path / "keys", World.IDENTITY)
    assert not make_following(tmp_path / "keys", World.IDENTITY)
    ring = open_keys(tmp_path / "keys")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        assert rotate(ledger, ring, World.IDENTITY) == 225
        assert rotate(ledger, ring, World.IDENTITY) == 0
        assert sorted(ledger.count_wrapped_keys().values()) == [225, 225]
        with pytest.raises(KeyStoreError):
            rotate(ledger, ring, World.PSEUDONYM)
    assert opened(tmp_path) == before
    adopt_following(tmp_path / "keys", World.IDENTITY)
    assert opened(tmp_path) == before
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger, pytest.raises(KeyStoreError) as caught:
        DataKeys(ledger, old).get(STUDIES[0], World.IDENTITY)
    assert caught.value.code == "key-wrong"


KILLED = """
import os, signal, sys
from pathlib import Path
from dicomnode import config
from dicomnode.cli.options import read_config
from dicomnode.service import keeping
from dicomnode.storage import files, rotation
from dicomnode.storage.ledger_keys import WrappedKeyRows
rotation._BATCH = 8
left = int(sys.argv[2])
def counted(function):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **kwargs)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return wrapper
files.write_new, files.sync_folder, files.write_all = map(counted, (files.write_new, files.sync_folder, files.write_all))
WrappedKeyRows.rewrap_keys = counted(WrappedKeyRows.rewrap_keys)
Path.replace = counted(Path.replace)
keeping.rotate_keys(read_config(None, Path(sys.argv[1])), {})
"""


@pytest.mark.slow
def test_a_rotation_that_is_killed_anywhere_loses_no_key(tmp_path: Path) -> None:
    """kill -9 before and after every write, flush, rename and transaction, each on a state of its own; then it goes on."""
    before = filled(tmp_path / "whole", 24)
    killed = 0
    for step in range(1, 200):
        state = tmp_path / str(step)
        shutil.copytree(tmp_path / "whole", state)
        done = subprocess.run([sys.executable, "-c", KILLED, state, str(step)], timeout=120, check=False)
        assert opened(state, 24) == before
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
        killed += 1
        assert set(rotate_keys(read_config(None, state), {})) <= {"identity", "pseudonym"}
        assert opened(state, 24) == before
        assert not list((state / "keys").glob("*.next.key"))
        with Ledger.open(state / "ledger.sqlite") as ledger:
            assert len(ledger.count_wrapped_keys()) == 2
        assert audit.verify(state)
    assert done.returncode == 0
    assert killed >= 20


def test_keys_that_follow_as_credentials(tmp_path: Path) -> None:
    for number, name in enumerate(("identity", "pseudonym", "derivation", "identity.next")):
        path = tmp_path / f"dicomnode.{name}"
        path.write_bytes(bytes([number] * 32))
        path.chmod(0o400)
    ring = open_credentials(tmp_path)
    assert list(ring.following) == [World.IDENTITY]
    wrapped = ring.wrap(World.IDENTITY, "a" * 64, bytes(32), following=True)
    assert ring.unwrap(World.IDENTITY, "a" * 64, wrapped) == bytes(32)


def hook(tmp_path: Path, body: str) -> tuple[str, ...]:
    path = tmp_path / "hook.sh"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(stat.S_IRWXU)
    return (str(path),)


def test_keys_of_a_program(tmp_path: Path) -> None:
    body = 'case "$1" in identity) printf "%064d" 1;; pseudonym) printf "%064d" 2;; derivation) printf "%064d" 3;; *) exit 1;; esac'
    ring = open_command(hook(tmp_path, body), timeout_seconds=30)
    assert ring.derivation == bytes.fromhex("0" * 63 + "3")
    assert not ring.following
    assert isinstance(ring, KeyRing)


@pytest.mark.parametrize(
    ("body", "code"),
    [("exit 1", "key-missing"), ("echo nonsense", "key-wrong"), ("printf '%064d' 7", "key-wrong"), ("exec sleep 60", "key-missing")],
)  # fmt: skip
def test_a_program_that_fails(tmp_path: Path, body: str, code: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_command(hook(tmp_path, body), timeout_seconds=30 if "sleep" not in body else 0.2)
    assert caught.value.code == code
    with pytest.raises(KeyStoreError):
        open_command((str(tmp_path / "nothing"),), timeout_seconds=30)


def test_the_trail_shows_what_was_changed_or_taken_out(tmp_path: Path) -> None:
    for number in range(3):
        audit.append(tmp_path, "key-rotated", at(number), world="identity", wrapped=number)
    path = tmp_path / "audit.jsonl"
    assert len(audit.verify(tmp_path)) == 64
    lines = path.read_text().splitlines()
    assert json.loads(lines[1])["wrapped"] == 1
    for spoilt in ([lines[0], lines[2]], [lines[0], lines[1].replace('"wrapped": 1', '"wrapped": 9')], ["{"], ["[]"]):
        path.write_text("\n".join(spoilt) + "\n")
        with pytest.raises(StorageError) as caught:
            audit.append(tmp_path, "more", at(9))
        assert caught.value.code == "sealed-damaged"


def test_the_pair_of_the_way_back(tmp_path: Path) -> None:
    pem = recipients.public_certificate(tmp_path)
    assert recipients.public_certificate(tmp_path) == pem
    assert (tmp_path / "reidentify.key").stat().st_mode & 0o777 == 0o400
    certificate = recipients.certificates((tmp_path / "reidentify.pem",))[0]
    assert certificate.public_key() == recipients.private_key(tmp_path / "reidentify.key").public_key()
    for spoil, code in (
        (lambda path: path.chmod(0o444), "key-permissions"),
        (lambda path: path.unlink(), "key-missing"),
    ):
        spoil(tmp_path / "reidentify.key")
        with pytest.raises(KeyStoreError) as caught:
            recipients.private_key(tmp_path / "reidentify.key")
        assert caught.value.code == code
    (tmp_path / "reidentify.key").write_text("none")
    os.chmod(tmp_path / "reidentify.key", 0o400)  # noqa: PTH101
    with pytest.raises(KeyStoreError):
        recipients.private_key(tmp_path / "reidentify.key")
    for path in ("reidentify.key", "nothing"):
        with pytest.raises(KeyStoreError):
            recipients.certificates((tmp_path / path,))
