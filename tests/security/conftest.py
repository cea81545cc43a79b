from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.network.receiver import Receiver
from tests.security.siege import Siege
from tests.unit.storage.samples import disk_folder


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """One receiver for all attacks: what one of them leaves behind, the next one meets."""
    with disk_folder() as folder, Receiver(folder / "state", intake={"maximum_object_bytes": 4 << 20}) as started:
        yield started
        assert started.stop() == 0


@pytest.fixture
def siege(receiver: Receiver) -> Siege:
    """That receiver, under attack."""
    return Siege(receiver)
