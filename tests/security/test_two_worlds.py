"""A process that holds the pseudonym key alone works with pseudonymous copies and can restore nobody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dicomnode.errors import KeyStoreError
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import KeyRing, open_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.sealed import SealContext, seal
from dicomnode.study import Purpose, World
from tests.unit.storage.samples import STUDY

NAME = b"Wolkenstein^Oda"
COPY = b"pseudonymous pixels"
#: The other process: it gets a folder with one key file, the whole ledger and all sealed objects, and tries everything.
PROGRAM = """
import sys
from pathlib import Path
from dicomnode.errors import NodeError
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import open_keys, open_pseudonym_keys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.sealed import SealContext, open_sealed
from dicomnode.study import Purpose, World
root, study = Path(sys.argv[1]), sys.argv[2]
ring = open_pseudonym_keys(root / "keys")
ledger = Ledger.open(root / "ledger.sqlite")
keys = DataKeys(ledger, ring)
objects = Objects(root / "objects", keys)
print("copy", objects.get(study, World.PSEUDONYM, "copy", Purpose.COPY).decode())
objects.put(study, World.PSEUDONYM, "result", Purpose.COPY, b"a result")
print("worlds", *(world.value for world in ring.worlds))
sealed = ledger.vault(study, "series", 1)
context = SealContext(study_key=study, object_id="vault", purpose=Purpose.VAULT)
pseudonym = keys.get(study, World.PSEUDONYM)
tries = {
    "original": lambda: objects.get(study, World.IDENTITY, "original", Purpose.COPY),
    "identity key": lambda: keys.get(study, World.IDENTITY),
    "new identity key": lambda: keys.get_or_create("f" * 64, World.IDENTITY),
    "derivation": lambda: ring.derivation,
    "vault": lambda: open_sealed(pseudonym.key, sealed, context=context),
    "whole ring": lambda: open_keys(root / "keys"),
}
for name, attempt in tries.items():
    try:
        attempt()
    except NodeError as error:
        print("refused", name, error.code)
    else:
        print("OPENED", name)
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    ring = open_keys(tmp_path / "whole" / "keys", create=True)
    with Ledger.open(tmp_path / "whole" / "ledger.sqlite") as ledger:
        keys = DataKeys(ledger, ring)
        objects = Objects(tmp_path / "whole" / "objects", keys)
        objects.put(STUDY, World.IDENTITY, "original", Purpose.COPY, NAME)
        objects.put(STUDY, World.PSEUDONYM, "copy", Purpose.COPY, COPY)
        key = keys.get(STUDY, World.IDENTITY)
        context = SealContext(study_key=STUDY, object_id="vault", purpose=Purpose.VAULT)
        ledger.put_vault(STUDY, "series", 1, seal(key.key, NAME, context=context))
    return tmp_path / "whole"


def test_a_process_with_the_pseudonym_key_alone_restores_nobody(state: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(state, other)
    (other / "keys" / "identity.key").unlink()
    (other / "keys" / "derivation.key").unlink()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, other, STUDY], capture_output=True, text=True, check=True, timeout=120
    )
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"copy {COPY.decode()}", "worlds pseudonym"]
    assert [line for line in lines if line.startswith("OPENED")] == []
    assert len([line for line in lines if line.startswith("refused")]) == 6
    assert NAME.decode() not in done.stdout + done.stderr
    assert not any(NAME in path.read_bytes() for path in other.rglob("*") if path.is_file())


def test_what_it_wrote_the_identity_world_reads(state: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, state, STUDY], capture_output=True, check=True, timeout=120)
    with Ledger.open(state / "ledger.sqlite") as ledger:
        objects = Objects(state / "objects", DataKeys(ledger, open_keys(state / "keys")))
        assert objects.get(STUDY, World.PSEUDONYM, "result", Purpose.COPY) == b"a result"
        assert objects.get(STUDY, World.IDENTITY, "original", Purpose.COPY) == NAME


def test_a_ring_of_one_world_says_so() -> None:
    ring = KeyRing(pseudonym=bytes(32))
    with pytest.raises(KeyStoreError) as caught:
        ring.wrap(World.IDENTITY, STUDY, bytes(32))
    assert caught.value.code == "key-missing"
    with pytest.raises(KeyStoreError):
        _ = ring.derivation
