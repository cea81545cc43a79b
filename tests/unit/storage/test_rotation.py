"""Rotation, keys from a program, and the trail: what is wrapped anew, broken off, gone on with, refused."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cryptography import x509

from dicomnode.cli.options import read_config
from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.service.keeping import rotate_keys
from dicomnode.storage import audit, database, files, recipients
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keyhook import open_command
from dicomnode.storage.keys import KeyRing, adopt_following, make_following, open_credentials, open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.rotation import rotate
from dicomnode.study import World
from tests import tools
from tests.killed_at_steps import KilledAtSteps
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
from pathlib import Path
from dicomnode.cli.options import read_config
from dicomnode.service import keeping
from dicomnode.storage import files, rotation
from dicomnode.storage.ledger_keys import WrappedKeyRows
rotation._BATCH = 8
files.write_new, files.sync_folder, files.write_all = map(counted, (files.write_new, files.sync_folder, files.write_all))
WrappedKeyRows.rewrap_keys = counted(WrappedKeyRows.rewrap_keys)
Path.replace = counted(Path.replace)
serve(lambda state: keeping.rotate_keys(read_config(None, Path(state)), {}))
"""


def prove_it_goes_on(state: Path, before: dict[tuple[str, World], bytes], first: set[tuple[World, bytes]]) -> None:
    """A rotation that was killed: another one ends it, and every data key is what it was."""
    with Ledger.open(state / "ledger.sqlite") as ledger:
        old = set(ledger.count_wrapped_keys()) & first
    assert {world.value for world, _ in old} <= set(rotate_keys(read_config(None, state), {})) <= {*World}
    assert opened(state, 24) == before
    assert not list((state / "keys").glob("*.next.key"))
    with Ledger.open(state / "ledger.sqlite") as ledger:
        assert len(ledger.count_wrapped_keys()) == 2
        assert not first & set(ledger.count_wrapped_keys()), "both worlds have new keys, wherever it was broken off"
    assert audit.verify(state)


@pytest.mark.slow
def test_a_rotation_that_is_killed_anywhere_loses_no_key(tmp_path: Path) -> None:
    """kill -9 before and after every write, flush, rename and transaction, each on a state of its own; then it goes on."""
    before = filled(tmp_path / "whole", 24)
    with Ledger.open(tmp_path / "whole" / "ledger.sqlite") as ledger:
        first = set(ledger.count_wrapped_keys())
    killed = 0
    with KilledAtSteps(KILLED) as program:
        for step in range(1, 200):
            state = tmp_path / str(step)
            shutil.copytree(tmp_path / "whole", state)
            ended = program.attempt(step, state)
            assert opened(state, 24) == before
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            killed += 1
            prove_it_goes_on(state, before, first)
    assert ended == 0
    assert killed >= 20


def test_a_rotation_by_anothers_key_changes_nothing(tmp_path: Path) -> None:
    filled(tmp_path, 4)
    (tmp_path / "keys" / "identity.key").unlink()
    (tmp_path / "keys" / "identity.key").write_text(bytes(range(32)).hex())
    (tmp_path / "keys" / "identity.key").chmod(0o400)
    for attempt in (
        lambda: rotate_keys(read_config(None, tmp_path), {}),
        lambda: make_following(tmp_path / "keys", World.IDENTITY) and rotate_both(tmp_path),
    ):
        with pytest.raises(KeyStoreError) as caught:
            attempt()
        assert caught.value.code == "key-wrong"
        assert (tmp_path / "keys" / "identity.key").read_text() == bytes(range(32)).hex()
    assert not (tmp_path / "audit.jsonl").exists()


def rotate_both(folder: Path) -> int:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        return sum(rotate(ledger, open_keys(folder / "keys"), world) for world in World)


def test_a_rotation_does_not_end_while_old_wrapped_keys_may_stand_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_MILLISECONDS", 50)
    before = filled(tmp_path, 8)
    key = (tmp_path / "keys" / "identity.key").read_bytes()
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        old = [wrapped.wrapped for study in STUDIES[:4] if (wrapped := ledger.wrapped_key(study, World.IDENTITY))]
    reader = sqlite3.connect(f"file:{tmp_path}/ledger.sqlite?mode=ro", uri=True)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM node_wrapped_key").fetchone()
    with pytest.raises(StorageError) as caught:
        rotate_keys(read_config(None, tmp_path), {})
    assert caught.value.code == "ledger-in-use"
    assert (tmp_path / "keys" / "identity.key").read_bytes() == key, "the old key is not replaced"
    reader.close()
    assert set(rotate_keys(read_config(None, tmp_path), {})) == {"identity", "pseudonym"}
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert not any(wrapped in everything for wrapped in old)
    assert opened(tmp_path, 8) == before


def test_a_study_that_comes_while_keys_are_rotated_is_wrapped_by_the_new_one(tmp_path: Path) -> None:
    """Keys of a program take the present ones' places by hand, some time after the rotation: none may be left behind."""
    filled(tmp_path, 2)
    for world in World:
        make_following(tmp_path / "keys", world)
    assert rotate_both(tmp_path) == 2
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, open_keys(tmp_path / "keys"))
        came = {world: keys.get_or_create(STUDIES[9], world).key for world in World}
    for world in World:
        adopt_following(tmp_path / "keys", world)
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, open_keys(tmp_path / "keys"))
        assert {world: keys.get(STUDIES[9], world).key for world in World} == came


def test_a_full_disk_leaves_no_half_made_key_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_keys(tmp_path, create=True)

    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:7])
        raise OSError(28, "full")

    monkeypatch.setattr(files, "write_all", full)
    for attempt in (lambda: make_following(tmp_path, World.IDENTITY), lambda: recipients.public_certificate(tmp_path)):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert caught.value.code == "storage-full"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["derivation.key", "identity.key", "pseudonym.key"]


def test_keys_that_follow_as_credentials(tmp_path: Path) -> None:
    for number, name in enumerate(("identity", "pseudonym", "derivation", "identity.next")):
        path = tmp_path / f"dicomnode.{name}"
        path.write_bytes(bytes(range(number, number + 32)))
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
    names = {
        name: bytes(range(number, number + 32)) for number, name in enumerate(("identity", "pseudonym", "derivation"))
    }
    body = " ".join(f"{name}) echo {key.hex()};;" for name, key in names.items())
    body = f'case "$1" in {body} *) exit 1;; esac'
    ring = open_command(hook(tmp_path, body), timeout_seconds=30)
    assert ring.derivation == names["derivation"]
    assert not ring.following
    assert isinstance(ring, KeyRing)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("exit 1", "key-missing"),
        ("echo nonsense", "key-wrong"),
        ("printf '%064d' 7", "key-wrong"),
        ("printf 'error: token not logged in 12345'", "key-wrong"),  # 32 letters are no key of 32 bytes
        ("printf '%032d' 7", "key-wrong"),  # nor is half a key in hexadecimal digits
        ("printf '%064d%300s' 7 and-more", "key-wrong"),
        ("exec cat /dev/zero", "key-wrong"),
        ("exec sleep 60", "key-missing"),
        ("exec >&-; exec sleep 60", "key-missing"),
    ],
)
def test_a_program_that_fails(tmp_path: Path, body: str, code: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(StorageError) as caught:
        open_command(hook(tmp_path, body), timeout_seconds=30 if "sleep" not in body else 0.2)
    assert caught.value.code == code
    assert caught.value.facts.get("missing") == 3 or caught.value.facts["key"] == "identity"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "what it says is not kept"
    with pytest.raises(KeyStoreError):
        open_command((str(tmp_path / "nothing"),), timeout_seconds=30)


@pytest.mark.parametrize("end", ["wait", "exit 0"])
def test_what_a_program_started_ends_with_it(tmp_path: Path, end: str) -> None:
    """One that does not answer in time, or whose child keeps its output open."""
    body = f"sleep 600 & echo $! > {tmp_path}/child\n{end}"
    with pytest.raises(KeyStoreError) as caught:
        open_command(hook(tmp_path, body), timeout_seconds=1)
    assert caught.value.code == "key-missing"
    child = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_trail_shows_what_was_changed_or_taken_out(tmp_path: Path) -> None:
    for number in range(3):
        audit.append(tmp_path, "key-rotated", at(number), world="identity", wrapped=number)
    path = tmp_path / "audit.jsonl"
    assert len(audit.verify(tmp_path)) == 64
    lines = path.read_text().splitlines()
    assert json.loads(lines[1])["wrapped"] == 1
    for spoilt in ([lines[0], lines[2]], [lines[0], lines[1].replace('"wrapped": 1', '"wrapped": 9')], ["{"], ["[]"]):
        path.write_text("\n".join(spoilt) + "\n")
        audit.append(tmp_path, "more", at(9))  # what is done is told all the same
        assert json.loads(path.read_text().splitlines()[-1])["event"] == "more"
        assert len(path.read_text().splitlines()) == len(spoilt) + 1
        with pytest.raises(StorageError) as caught:
            audit.verify(tmp_path)
        assert caught.value.code == "sealed-damaged"


def test_a_line_costs_the_same_however_long_the_trail_is_and_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    whole = os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append(length)
        return whole(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", counted)
    for number in range(300):
        audit.append(tmp_path, "order-export", at(number % 28 + 1), study_key="ab" * 16, rules="r" * (number % 50))
    audit.verify(tmp_path)
    assert max(read) <= 4096
    assert len(read) <= 300 * 2
    path = tmp_path / "audit.jsonl"
    with path.open("ab") as file:
        file.write(b'{"at": "cut by a cr')
    audit.append(tmp_path, "more", at(9))
    audit.verify(tmp_path)
    assert len(path.read_text().splitlines()) == 301
    long = tmp_path / "long"
    long.mkdir()
    for number in range(3):
        audit.append(long, "more", at(number + 1), rules="x" * 9000)
    audit.verify(long)
    assert audit.last_event(long, "ab" * 16) is None
    assert audit.last_event(tmp_path, "ab" * 16) == "order-export"


def test_two_who_make_the_pair_at_once_get_the_same_one(tmp_path: Path) -> None:
    """A certificate was handed out whose private key another one had replaced: nobody could ever open what it encloses."""
    program = "import sys, pathlib; from dicomnode.storage import recipients; sys.stdin.readline(); print(recipients.public_certificate(pathlib.Path(sys.argv[1])), end='')"
    ready = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]  # fmt: skip
    for one in ready:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    said = {one.communicate(timeout=60)[0] for one in ready}
    assert said == {recipients.public_certificate(tmp_path)}


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


@pytest.mark.parametrize("kind", ["rsa:1024", "ec"])
def test_a_recipient_whose_key_is_short_or_no_rsa_is_refused(tmp_path: Path, kind: str) -> None:
    tools.require("openssl")
    wanted = ["-newkey", kind] if kind != "ec" else ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command = ["openssl", "req", "-x509", *wanted, "-nodes", "-keyout", str(tmp_path / "key"), "-subj", "/CN=one"]
    subprocess.run([*command, "-out", str(tmp_path / "pem")], check=True, capture_output=True, timeout=60)
    with pytest.raises(KeyStoreError) as caught:
        recipients.certificates((tmp_path / "pem",))
    assert caught.value.code == "key-wrong"


@pytest.mark.parametrize("following", [True, False])
def test_keys_of_credentials_are_not_rotated_in_the_keys_folder(tmp_path: Path, following: bool) -> None:
    """systemd hands over what lies in the keys folder: that folder's keys stay as they are, and nothing is made there."""
    state, credentials = tmp_path / "state", tmp_path / "credentials"
    state.mkdir()
    credentials.mkdir()
    before = filled(state, 4)
    folder = state / "keys"
    for name in ("identity", "pseudonym", "derivation"):
        shutil.copy(folder / f"{name}.key", credentials / f"dicomnode.{name}")
    if following:
        for world in World:
            (credentials / f"dicomnode.{world.value}.next").write_text(os.urandom(32).hex())
            (credentials / f"dicomnode.{world.value}.next").chmod(0o400)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    environment = {"CREDENTIALS_DIRECTORY": str(credentials)}
    if following:
        assert set(rotate_keys(read_config(None, state), environment)) == {"identity", "pseudonym"}
    else:
        with pytest.raises(KeyStoreError, match="key-missing"):
            rotate_keys(read_config(None, state), environment)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    with Ledger.open(state / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, open_credentials(credentials))
        assert {(study, world): keys.get(study, world).key for study, world in before} == before


def test_a_certificate_is_never_another_keys(tmp_path: Path) -> None:
    """What is enclosed for a certificate without its private key, nobody opens again."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    recipients.public_certificate(tmp_path / "one")
    pem = recipients.public_certificate(tmp_path / "other")
    private = tmp_path / "other" / "reidentify.key"
    kept = private.read_bytes()
    private.unlink()
    with pytest.raises(KeyStoreError) as caught:
        recipients.public_certificate(tmp_path / "other")
    assert caught.value.code == "key-missing"
    assert not private.exists()
    shutil.copy(tmp_path / "one" / "reidentify.key", private)
    with pytest.raises(KeyStoreError) as caught:
        recipients.public_certificate(tmp_path / "other")
    assert caught.value.code == "key-wrong"
    private.unlink()
    private.write_bytes(kept)
    private.chmod(0o400)
    (tmp_path / "other" / "reidentify.pem").unlink()  # killed before it was written
    again = recipients.public_certificate(tmp_path / "other")
    public = [x509.load_pem_x509_certificate(one.encode()).public_key() for one in (pem, again)]
    assert public[0] == public[1]
