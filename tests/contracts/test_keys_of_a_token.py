"""Root keys out of a PKCS#11 token (SoftHSM), by the exec hook: the token unwraps, the disk holds nothing that opens."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from dicomnode.errors import KeyStoreError
from dicomnode.storage.keyhook import open_command
from dicomnode.storage.keys import KEY_NAMES
from dicomnode.study import World
from tests import tools

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")  # fmt: skip
MODULE = next((path for path in MODULES if Path(path).exists()), None)
PIN = "0000-test"


@pytest.fixture(autouse=True)
def _token() -> None:
    """Programs and module of a token in software, or a reason why there is no test."""
    for program in ("softhsm2-util", "pkcs11-tool"):
        tools.require(program)
    tools.require_file(MODULE or MODULES[0], setup="make setup")


def test_a_token_hands_out_the_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "softhsm2.conf"))
    login = ["pkcs11-tool", "--module", str(MODULE), "--login", "--pin", PIN, "--token-label", "node"]

    def call(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    call("softhsm2-util", "--init-token", "--free", "--label", "node", "--so-pin", PIN, "--pin", PIN)
    call(*login, "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--usage-decrypt")
    public = tmp_path / "public.der"
    call(*login, "--read-object", "--type", "pubkey", "--id", "01", "--output-file", str(public))
    key = load_der_public_key(public.read_bytes())
    assert isinstance(key, RSAPublicKey)
    secrets = {name: os.urandom(32) for name in KEY_NAMES}
    for name, secret in secrets.items():
        (tmp_path / f"{name}.wrapped").write_bytes(key.encrypt(secret, PKCS1v15()))
    hook = tmp_path / "hook.sh"
    command = " ".join([*login, "--decrypt", "--mechanism", "RSA-PKCS", "--id", "01"])
    hook.write_text(
        f'#!/bin/sh\n[ -e "{tmp_path}/$1.wrapped" ] && exec {command} --input-file "{tmp_path}/$1.wrapped"\n'
    )
    hook.chmod(stat.S_IRWXU)

    ring = open_command((str(hook),), timeout_seconds=60)
    assert ring.derivation == secrets["derivation"]
    wrapped = ring.wrap(World.IDENTITY, "a" * 64, bytes(32))
    assert open_command((str(hook),), timeout_seconds=60).unwrap(World.IDENTITY, "a" * 64, wrapped) == bytes(32)

    shutil.rmtree(tmp_path / "tokens")
    with pytest.raises(KeyStoreError) as caught:
        open_command((str(hook),), timeout_seconds=60)
    assert caught.value.code == "key-missing"
