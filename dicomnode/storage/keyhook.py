"""Root keys from a program: a KMS, a PKCS#11 token, whatever can print a key. Nothing is kept on the disk.

The program is run once for each key with the key's name as its last argument (``identity``, ``pseudonym``,
``derivation``, and ``identity.next`` or ``pseudonym.next`` while keys are rotated) and writes 64 hexadecimal digits or 32
raw bytes. Any exit status but 0 says that it has no such key.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Final

from dicomnode.errors import KeyStoreError
from dicomnode.storage.keys import KEY_NAMES, KeyRing, parse_key, ring_of
from dicomnode.study import World

_LARGEST: Final = 256


def open_command(command: Sequence[str], *, timeout_seconds: float) -> KeyRing:
    """Keys that a program hands out.

    Raises
    ------
    KeyStoreError
        ``key-missing`` where it does not run, takes too long or has not all of them; ``key-wrong``.
    """
    keys = {name: _ask(command, name, timeout_seconds) for name in KEY_NAMES}
    if missing := sum(key is None for key in keys.values()):
        raise KeyStoreError("key-missing", missing=missing)
    following = {world: _ask(command, f"{world.value}.next", timeout_seconds) for world in World}
    return ring_of(
        {name: key for name, key in keys.items() if key is not None},
        {world: key for world, key in following.items() if key is not None},
    )


def _ask(command: Sequence[str], name: str, timeout_seconds: float) -> bytes | None:
    try:
        done = subprocess.run(  # noqa: S603 - the site's own program, named in its configuration
            [*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=timeout_seconds, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        raise KeyStoreError("key-missing", missing=1) from None
    return parse_key(done.stdout[:_LARGEST]) if done.returncode == 0 else None
