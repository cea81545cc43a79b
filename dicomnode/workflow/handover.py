"""What one stage of a work leaves for the next: sealed objects, a plan, and the identity in the vault.

May live here: names and purposes of what is sealed between stages. What the stages do stands in `stages`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dicomnode.encoded import Buffer
from dicomnode.errors import StorageError
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.objects import Objects
from dicomnode.storage.sealed import SealContext, open_sealed, seal
from dicomnode.storage.spool import Spool
from dicomnode.study import Purpose, WorkKey, World
from dicomnode.workflow.analysis import Analyst

_LENGTH_BYTES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """What the stages work with.

    Attributes
    ----------
    remember
        Told of a study whose inputs changed though nothing came of it.
    """

    spool: Spool
    ledger: Ledger
    objects: Objects
    keys: DataKeys
    derivation_key: bytes = field(repr=False)
    analysts: Mapping[str, Analyst]
    remember: Callable[[str], None] = lambda _: None

    @property
    def sop_classes(self) -> frozenset[str]:
        """SOP Classes that any model looks at."""
        return frozenset().union(*(analyst.package.manifest.input.sop_classes for analyst in self.analysts.values()))


class Handover:
    """Seals what a work needs later, and opens it again."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def put(self, key: WorkKey, world: World, name: str, purpose: Purpose, data: Buffer | Iterable[Buffer]) -> None:
        """Seal an object of a study."""
        self._rooms.objects.put(key.study_key, world, name, purpose, data)

    def get(self, key: WorkKey, world: World, name: str, purpose: Purpose) -> bytes:
        """Open an object of a study."""
        return self._rooms.objects.get(key.study_key, world, name, purpose)

    def find(self, key: WorkKey, world: World, name: str, purpose: Purpose) -> bytes | None:
        """Open an object of a study; None where there is none."""
        if not self._rooms.objects.exists(key.study_key, world, name, purpose):
            return None
        return self.get(key, world, name, purpose)

    def put_copies(self, key: WorkKey, copies: Iterable[bytes]) -> None:
        """Seal the pseudonymous copies of a work's images, as one object: one name to make durable, not hundreds."""
        self.put(key, World.PSEUDONYM, name(key, "copies"), Purpose.COPY, framed(copies))

    def copies(self, key: WorkKey) -> Iterator[bytes]:
        """Open the copies, one after the other."""
        return cut(self.stream(key, World.PSEUDONYM, name(key, "copies"), Purpose.COPY))

    def has_copies(self, key: WorkKey) -> bool:
        """Whether the copies are sealed."""
        return self._rooms.objects.exists(key.study_key, World.PSEUDONYM, name(key, "copies"), Purpose.COPY)

    def stream(self, key: WorkKey, world: World, name: str, purpose: Purpose) -> Iterator[bytes]:
        """Open an object of a study, piece by piece."""
        return self._rooms.objects.stream(key.study_key, world, name, purpose)

    def put_plan(self, key: WorkKey, plan: Mapping[str, Any]) -> None:
        """Seal what a work is made of."""
        self.put(key, World.PSEUDONYM, name(key, "plan"), Purpose.COPY, json.dumps(plan).encode())

    def plan(self, key: WorkKey) -> dict[str, Any]:
        """What a work is made of."""
        plan: dict[str, Any] = json.loads(self.get(key, World.PSEUDONYM, name(key, "plan"), Purpose.COPY))
        return plan

    def put_identity(self, key: WorkKey, series_key: str, identity: bytes) -> None:
        """Seal the identity of a series in the vault."""
        data_key = self._rooms.keys.get_or_create(key.study_key, World.IDENTITY)
        sealed = seal(data_key.key, identity, context=_vault_context(key, series_key), key_id=data_key.key_id)
        self._rooms.ledger.put_vault(key.study_key, series_key, key.revision, sealed)

    def identity(self, key: WorkKey, series_key: str) -> bytes:
        """Open the identity of a series."""
        sealed = self._rooms.ledger.vault(key.study_key, series_key, key.revision)
        if sealed is None:
            raise StorageError("sealed-damaged")
        context = _vault_context(key, series_key)
        return open_sealed(self._rooms.keys.get(key.study_key, World.IDENTITY).key, sealed, context=context)


def name(key: WorkKey, what: str) -> str:
    """Name of what a work leaves behind."""
    return f"{key.workflow_id}-{what}"


def framed(copies: Iterable[bytes]) -> Iterator[bytes]:
    """Copies one behind the other, each behind its length."""
    for copy in copies:
        yield len(copy).to_bytes(_LENGTH_BYTES, "big")
        yield copy


def cut(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Take apart what `framed` put together, out of pieces of any size.

    Raises
    ------
    StorageError
        ``sealed-damaged`` where it ends within a copy.
    """
    source = iter(pieces)
    rest = memoryview(b"")

    def take(size: int) -> bytes:
        nonlocal rest
        parts = []
        while size > len(rest) and (piece := next(source, None)) is not None:
            parts.append(rest)
            size -= len(rest)
            rest = memoryview(piece)
        parts.append(rest[:size])
        rest = rest[size:]
        return b"".join(parts)

    while head := take(_LENGTH_BYTES):
        length = int.from_bytes(head, "big")
        copy = take(length) if len(head) == _LENGTH_BYTES else b""
        if len(head) < _LENGTH_BYTES or len(copy) < length:
            raise StorageError("sealed-damaged")
        yield copy


def _vault_context(key: WorkKey, series_key: str) -> SealContext:
    return SealContext(study_key=key.study_key, object_id=f"{series_key}-{key.revision}", purpose=Purpose.VAULT)
