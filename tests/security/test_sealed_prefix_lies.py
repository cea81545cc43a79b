"""Attack: the clear prefix of a record claims a huge number or length, so that recovery runs for ever or eats memory."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from dicomnode.errors import StorageError
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from tests.unit.storage.samples import STUDY, encoded, intake, metadata


@pytest.mark.parametrize(("place", "form", "value"), [(36, ">I", 2**32 - 1), (40, ">Q", 2**64 - 1), (40, ">Q", 0)])
def test_a_lying_prefix_costs_one_record(tmp_path: Path, place: int, form: str, value: int) -> None:
    with Spool(tmp_path, intake("append"), MemoryKeys()) as spool:
        addresses = [spool.append(STUDY, metadata(encoded(n), n), encoded(n)) for n in range(3)]
        (path,) = [each for each in tmp_path.rglob("*") if each.is_file()]
        data = bytearray(path.read_bytes())
        struct.pack_into(form, data, addresses[1].offset + place, value)
        path.write_bytes(data)
        damages: list[Damage] = []
        assert [address.number for _, address, _ in spool.recover(on_damage=damages.append)] == [0, 2]
        assert [damage.number for damage in damages] == [1]
        with pytest.raises(StorageError):
            spool.read(STUDY, addresses[1])
