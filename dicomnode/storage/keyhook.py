"""Root keys from a program: a KMS, a PKCS#11 token, whatever can print a key. Nothing is kept on the disk.

The program is run once for each key with the key's name as its last argument (``identity``, ``pseudonym``,
``derivation``, and ``identity.next`` or ``pseudonym.next`` while keys are rotated) and writes 64 hexadecimal digits or 32
raw bytes. Any exit status but 0 says that it has no such key.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Final

from dicomnode.errors import KeyStoreError
from dicomnode.storage.keys import KEY_NAMES, KeyRing, naming, parse_key, ring_of
from dicomnode.study import World

_LARGEST: Final = 256


def open_command(command: Sequence[str], *, timeout_seconds: float) -> KeyRing:
    """Keys that a program hands out.

    Raises
    ------
    KeyStoreError
        ``key-missing`` where it does not run, takes too long or has not all of them; ``key-wrong`` where it says
        something else, or too much.
    """
    keys = {name: _asked(command, name, timeout_seconds) for name in KEY_NAMES}
    if missing := sum(key is None for key in keys.values()):
        raise KeyStoreError("key-missing", missing=missing)
    following = {world: _asked(command, f"{world.value}.next", timeout_seconds) for world in World}
    return ring_of(
        {name: key for name, key in keys.items() if key is not None},
        {world: key for world, key in following.items() if key is not None},
    )


def _asked(command: Sequence[str], name: str, timeout_seconds: float) -> bytes | None:
    with naming(name):
        return _ask(command, name, timeout_seconds)


def _ask(command: Sequence[str], name: str, timeout_seconds: float) -> bytes | None:
    """What the program says of one key, in bounded time and memory; whatever it started ends with it then."""
    ends_at = time.monotonic() + timeout_seconds
    try:
        program = subprocess.Popen(  # noqa: S603 - the site's own program, named in its configuration
            [*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        raise KeyStoreError("key-missing", missing=1) from None
    with program:
        try:
            said = _output(program, ends_at)
            status = program.wait(max(ends_at - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            raise KeyStoreError("key-missing", missing=1) from None
        finally:
            if program.returncode is None:  # not waited for yet: the group is its own for sure
                os.killpg(program.pid, signal.SIGKILL)
    return parse_key(said) if status == 0 else None


def _output(program: subprocess.Popen[bytes], ends_at: float) -> bytes:
    """All that it writes, up to one byte more than any key takes."""
    assert program.stdout is not None
    said = b""
    with selectors.DefaultSelector() as selector:
        selector.register(program.stdout, selectors.EVENT_READ)
        while len(said) <= _LARGEST:
            left = ends_at - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise subprocess.TimeoutExpired(program.args, left)
            block = os.read(program.stdout.fileno(), _LARGEST + 1 - len(said))
            if not block:
                return said
            said += block
    raise KeyStoreError("key-wrong", bytes=len(said))
