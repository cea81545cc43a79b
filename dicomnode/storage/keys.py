"""Root keys: where they come from, and how they wrap data keys. Data keys themselves live in `datakeys`.

Three keys of 32 random bytes: ``identity`` and ``pseudonym`` wrap the data keys of their worlds and may be rotated;
``derivation`` makes blind keys, UIDs and pseudonyms in the identity world and never changes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from dicomnode.errors import KeyStoreError, StorageError
from dicomnode.storage import files
from dicomnode.storage.sealed import KEY_BYTES, key_id
from dicomnode.study import World

KEY_NAMES: Final = ("identity", "pseudonym", "derivation")
_NONCE_BYTES: Final = 12
_WRAP_LABEL: Final = "dicomnode data key v1"
_LARGEST_FILE: Final = 256
_SHOWN: Final = 16  # letters of a study key, as `dicomnode studies` shows it
_LETTERS: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\n\r")
_LEAST_KINDS: Final = 8  # of bytes: 32 random ones have fewer less than once in 10^36


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A data key under its world's key-encryption key, as the ledger keeps it.

    Attributes
    ----------
    wrapping_key_id
        Which key-encryption key wrapped it.
    key_id
        Name of the data key, as sealed headers carry it.
    wrapped
        Nonce and AES-256-GCM-SIV ciphertext with tag (RFC 8452).
    """

    world: World
    wrapping_key_id: bytes
    key_id: bytes
    wrapped: bytes = field(repr=False)


class KeyRing:
    """The root keys that this process holds.

    Parameters
    ----------
    pseudonym
        32 bytes. A ring with this key alone opens what the network works with, and nothing that names anybody.
    identity, derivation
        32 bytes each; None: this process is of the pseudonym world.
    following
        Keys that are to take the place of the present ones (rotation): what they wrapped is unwrapped too.

    Raises
    ------
    ValueError
        If one has another length, or two are equal.
    """

    def __init__(
        self,
        *,
        pseudonym: bytes,
        identity: bytes | None = None,
        derivation: bytes | None = None,
        following: Mapping[World, bytes] = MappingProxyType({}),
    ) -> None:
        given = [key for key in (identity, pseudonym, derivation, *following.values()) if key is not None]
        if {len(key) for key in given} != {KEY_BYTES}:
            raise ValueError("a root key has 32 bytes")
        if len(set(given)) != len(given):
            raise ValueError("the root keys differ from each other")
        self._derivation = derivation
        present = {World.IDENTITY: identity, World.PSEUDONYM: pseudonym}
        self._wrapping = MappingProxyType({world: key for world, key in present.items() if key is not None})
        self.following = MappingProxyType(dict(following))

    def __repr__(self) -> str:
        return "KeyRing()"

    @property
    def derivation(self) -> bytes:
        """Key of blind keys, UIDs and pseudonyms; `KeyStoreError` ``key-missing`` in the pseudonym world."""
        if self._derivation is None:
            raise KeyStoreError("key-missing", missing=1)
        return self._derivation

    @property
    def worlds(self) -> tuple[World, ...]:
        """Worlds whose objects this ring opens."""
        return tuple(self._wrapping)

    def wrapping_key_id(self, world: World, *, following: bool = False) -> bytes:
        """Name of a world's key-encryption key, present or following."""
        return key_id(self._key_of(world, following=following))

    def _key_of(self, world: World, *, following: bool = False) -> bytes:
        key = (self.following if following else self._wrapping).get(world)
        if key is None:
            raise KeyStoreError("key-missing", world=world.value)
        return key

    def wrap(self, world: World, study_key: str, key: bytes, *, following: bool = False) -> WrappedKey:
        """Wrap a data key, bound to its study and world."""
        wrapping = self._key_of(world, following=following)
        name = key_id(key)
        nonce = os.urandom(_NONCE_BYTES)
        sealed = AESGCMSIV(wrapping).encrypt(nonce, key, _associated_data(world, study_key, name))
        return WrappedKey(world=world, wrapping_key_id=key_id(wrapping), key_id=name, wrapped=nonce + sealed)

    def unwrap(self, world: World, study_key: str, wrapped: WrappedKey) -> bytes:
        """Data key of a study and world.

        Raises
        ------
        KeyStoreError
            ``key-wrong`` if another key wrapped it. ``sealed-damaged`` with study and world if it belongs to another
            study or world, or was changed: this one is lost, and no other.
        """
        wrapping = self._key_of(world)
        if world in self.following and wrapped.wrapping_key_id == self.wrapping_key_id(world, following=True):
            wrapping = self.following[world]
        if wrapped.wrapping_key_id != key_id(wrapping):
            raise KeyStoreError("key-wrong", world=world.value)
        nonce, sealed = wrapped.wrapped[:_NONCE_BYTES], wrapped.wrapped[_NONCE_BYTES:]
        try:
            return AESGCMSIV(wrapping).decrypt(nonce, sealed, _associated_data(world, study_key, wrapped.key_id))
        except (InvalidTag, ValueError):  # ValueError: too short for a nonce
            raise KeyStoreError("sealed-damaged", study=f"key-{study_key[:_SHOWN]}", world=world.value) from None

    def rewrap(self, study_key: str, wrapped: WrappedKey, new: KeyRing) -> WrappedKey:
        """The same data key under the key-encryption key of another ring (rotation); errors as `unwrap`."""
        return new.wrap(wrapped.world, study_key, self.unwrap(wrapped.world, study_key, wrapped))

    def advance(self, study_key: str, wrapped: WrappedKey) -> WrappedKey:
        """The same data key under the following key-encryption key of its world; errors as `unwrap`."""
        key = self.unwrap(wrapped.world, study_key, wrapped)
        return self.wrap(wrapped.world, study_key, key, following=True)


def open_keys(folder: Path, *, create: bool = False, sealed_with: Sequence[Path] = ()) -> KeyRing:
    """Keys of a folder: ``identity.key``, ``pseudonym.key``, ``derivation.key``, each 64 hexadecimal digits.

    Parameters
    ----------
    folder
        Keys folder, 0700; its files are 0400.
    create
        Make all three, at once and durably, where none is there. Safe against a second process that does the same.
    sealed_with
        Paths (the ledger, the spool) whose presence shows that keys were there before: then none are ever made anew.

    Raises
    ------
    KeyStoreError
        ``key-missing``, ``key-wrong`` (no key in the file) or ``key-permissions``.
    StorageError
        ``storage-failed`` if the folder cannot be written.
    """
    present = [name for name in KEY_NAMES if _is_there(_file(folder, name))]
    if not present and create:
        used = any(_is_there(path) for path in sealed_with)
        if used:
            raise KeyStoreError("key-missing", missing=len(KEY_NAMES))
        _create(folder)
    elif len(present) < len(KEY_NAMES):
        raise KeyStoreError("key-missing", missing=len(KEY_NAMES) - len(present))
    with files.disk_errors(), naming("folder"):
        _check_owned(folder.stat(), 0o077)
    keys = {name: _read(_file(folder, name), 0o077) for name in KEY_NAMES}
    following = {world: _file(folder, f"{world.value}.next") for world in World}
    return ring_of(keys, {world: _read(path, 0o077) for world, path in following.items() if _is_there(path)})


def open_pseudonym_keys(folder: Path) -> KeyRing:
    """Ring of a process of the pseudonym world: ``pseudonym.key`` alone is looked at; errors as `open_keys`."""
    with files.disk_errors(), naming("folder"):
        _check_owned(folder.stat(), 0o077)
    return ring_of({"pseudonym": _read(_file(folder, "pseudonym"), 0o077)}, {})


def make_following(folder: Path, world: World) -> bool:
    """Make a key that is to follow a world's key-encryption key; False where one waits there already."""
    path = _file(folder, f"{world.value}.next")
    if _is_there(path):
        return False
    with files.disk_errors():
        files.replace_file(path, (f"{secrets.token_hex(KEY_BYTES)}\n".encode(),), mode=0o400)
    return True


def adopt_following(folder: Path, world: World) -> None:
    """Put the following key in the place of the present one, by one rename."""
    with files.disk_errors():
        _file(folder, f"{world.value}.next").replace(_file(folder, world.value))
        files.sync_folder(folder)


def open_credentials(folder: Path) -> KeyRing:
    """Keys that systemd hands over (``$CREDENTIALS_DIRECTORY``): ``dicomnode.identity`` and so on, hex or 32 raw bytes.

    The group's bit is not looked at: systemd grants by ACL, whose mask shows there.

    Raises
    ------
    KeyStoreError
        ``key-missing``, ``key-wrong`` or ``key-permissions``.
    """
    keys = {name: _read(folder / f"dicomnode.{name}", 0o007) for name in KEY_NAMES}
    following = {world: folder / f"dicomnode.{world.value}.next" for world in World}
    return ring_of(keys, {world: _read(path, 0o007) for world, path in following.items() if _is_there(path)})


def has_credentials(folder: Path | None) -> bool:
    """Whether systemd handed over any of the node's keys."""
    return folder is not None and any(_is_there(folder / f"dicomnode.{name}") for name in KEY_NAMES)


def _is_there(path: Path) -> bool:
    """Whether a file is there; `KeyStoreError` ``key-permissions`` where we may not look."""
    try:
        with files.disk_errors():
            return path.exists()
    except StorageError as error:
        raise (KeyStoreError("key-permissions") if error.facts.get("errno") == errno.EACCES else error) from None


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.key"


def ring_of(keys: Mapping[str, bytes], following: Mapping[World, bytes]) -> KeyRing:
    """Ring of keys by their names; `KeyStoreError` ``key-wrong`` where they are none."""
    try:
        return KeyRing(**keys, following=following)
    except ValueError:
        raise KeyStoreError("key-wrong") from None


def _create(folder: Path) -> None:
    """All keys in a new folder that takes its place by one rename; who comes second finds it there."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}.new")
    with files.disk_errors():
        files.make_folder(folder.parent)
        temporary.mkdir(mode=files.FOLDER_MODE)
        try:
            for name in KEY_NAMES:
                files.write_new(_file(temporary, name), (f"{secrets.token_hex(KEY_BYTES)}\n".encode(),), mode=0o400)
            files.sync_folder(temporary)
            temporary.rename(folder)
        except OSError:
            for name in KEY_NAMES:
                _file(temporary, name).unlink(missing_ok=True)
            temporary.rmdir()
            if not all(_file(folder, name).exists() for name in KEY_NAMES):
                raise
        files.sync_folder(folder.parent)


@contextlib.contextmanager
def naming(key: str) -> Iterator[None]:
    """Say of what goes wrong which key it is; never its value."""
    try:
        yield
    except KeyStoreError as error:
        raise KeyStoreError(error.code, **{**error.facts, "key": key}) from None


def _read(path: Path, forbidden: int) -> bytes:
    with naming(path.name):
        return _read_key(path, forbidden)


def _read_key(path: Path, forbidden: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would keep us waiting for good
    except FileNotFoundError:
        raise KeyStoreError("key-missing", missing=1) from None
    except PermissionError:
        raise KeyStoreError("key-permissions") from None
    except OSError as error:
        raise StorageError("storage-failed", errno=error.errno or 0) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):  # a folder, a pipe
            raise KeyStoreError("key-wrong")
        _check_owned(found, forbidden)
        with files.disk_errors():
            return parse_key(os.read(descriptor, _LARGEST_FILE))
    finally:
        os.close(descriptor)


def parse_key(data: bytes) -> bytes:
    """Key out of 32 raw bytes or 64 hexadecimal digits; `KeyStoreError` ``key-wrong``.

    32 letters are no key: random bytes are never all of them, and a message or half a key is. Nor are zeros, which a
    crash leaves of a file, and other bytes that repeat.
    """
    key = data
    if len(data) != KEY_BYTES:
        try:
            key = bytes.fromhex(data.decode("ascii"))
        except ValueError:
            raise KeyStoreError("key-wrong") from None
    elif _LETTERS.issuperset(data):
        raise KeyStoreError("key-wrong", bytes=KEY_BYTES)
    if len(key) != KEY_BYTES or len(set(key)) < _LEAST_KINDS:
        raise KeyStoreError("key-wrong", bytes=len(key))
    return key


def _check_owned(found: os.stat_result, forbidden: int) -> None:
    if stat.S_IMODE(found.st_mode) & forbidden or found.st_uid not in (0, os.geteuid()):
        raise KeyStoreError("key-permissions", mode=f"o{stat.S_IMODE(found.st_mode):04o}")


def _associated_data(world: World, study_key: str, name: bytes) -> bytes:
    parts = (_WRAP_LABEL.encode(), world.value.encode(), study_key.encode(), name)
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
