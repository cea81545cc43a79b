"""What a node holds, opened with its own keys beside it: the index, the sealed originals, and its offline twin."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from dicomnode.config import Config
from dicomnode.encoded import split_part10
from dicomnode.network.requestor import Requestor, StoreOutcome
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.offline import Workbench
from dicomnode.service.rooms import Layout
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keys import KeyRing
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.segment_reader import Damage
from dicomnode.storage.spool import Spool
from dicomnode.study import InstanceRow, InstanceState, WorkKey, blind_key
from tests.journey.running_node import RunningNode


def data_of(path: Path) -> bytes:
    """Encoded Data Set of a Part 10 file: what goes over the wire."""
    return bytes(split_part10(path.read_bytes())[1])


def digest_of(path: Path) -> str:
    """SHA-256 of the encoded Data Set of a Part 10 file."""
    return hashlib.sha256(data_of(path)).hexdigest()


def send(node: RunningNode, paths: Iterable[Path]) -> tuple[StoreOutcome, ...]:
    """C-STORE of files as they are, byte for byte; one outcome each."""
    peer = Requestor(Destination(name="node", ae_title="DICOMNODE", host="127.0.0.1", port=node.port), "SENDER")
    return peer.send_files(paths)


class Inside:
    """The state folder of a node.

    Parameters
    ----------
    tree
        Its configuration, state folder filled in.
    """

    def __init__(self, tree: Config) -> None:
        self._tree = tree
        self._layout = Layout.of(tree)

    @property
    def keys(self) -> KeyRing:
        """Its keys."""
        return rooms.open_key_ring(self._tree, self._layout, {}, create=False)

    def study_key(self, study_instance_uid: str) -> str:
        """Key of a study."""
        return blind_key(self.keys.derivation, "study", study_instance_uid)

    def instances(
        self, study_instance_uid: str, state: InstanceState = InstanceState.CURRENT
    ) -> tuple[InstanceRow, ...]:
        """Index rows of a study's instances in a state."""
        with Ledger.open_read_only(self._layout.ledger) as ledger:
            return ledger.instances(self.study_key(study_instance_uid), state)

    def originals(self, study_instance_uid: str | None = None) -> dict[str, list[bytes]]:
        """Every record of the spool, or of a study, whatever the index says of it: SOP Instance UID to the bytes that came."""
        wanted = None if study_instance_uid is None else self.study_key(study_instance_uid)
        found: dict[str, list[bytes]] = {}
        with (
            Ledger.open_read_only(self._layout.ledger) as ledger,
            Spool(self._layout.spool, self._tree.intake, DataKeys(ledger, self.keys)) as spool,
        ):
            for study_key, address, metadata in spool.recover(on_damage=_expect_torn):
                if wanted not in (None, study_key):
                    continue
                _, encoded = spool.read(study_key, address)
                found.setdefault(metadata.sop_instance_uid, []).append(encoded)
        return found

    def result_digests(self, key: WorkKey) -> dict[str, str]:
        """Role to the digest under which the ledger keeps each result."""
        with Ledger.open_read_only(self._layout.ledger) as ledger:
            return {row.role.value: row.digest for row in ledger.results(key)}

    def offline(self, paths: Iterable[Path], output: Path) -> list[Path]:
        """Results of the offline twin with the node's own keys."""
        output.mkdir(parents=True, exist_ok=True)
        with Workbench(self._tree, {}, None) as bench:
            for path in paths:
                bench.add(path)
            (files,) = bench.studies()
            (model,) = bench.models
            outcome = bench.run(files, model, output, lambda _: None)
        assert outcome.reason is None, outcome
        return [output / name for name in outcome.files if name.endswith(".dcm")]


def _expect_torn(damage: Damage) -> None:
    assert damage.kind == "torn", damage
