"""Associations of every shape, into a real spool: what was acknowledged is there, once, byte for byte."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from pydicom.uid import UID
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    SOPClassCommonExtendedNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import build_context, build_role

from dicomnode.config import IntakeSection
from dicomnode.encoded import encode_dataset, encode_part10
from dicomnode.network.association import storage_classes
from dicomnode.network.requestor import OutgoingObject
from dicomnode.network.transport import Entity
from dicomnode.storage.digest import ContentDigests
from dicomnode.storage.memory import MemoryKeys
from dicomnode.storage.spool import Spool
from dicomnode.study import blind_key
from dicomnode.workflow.activity import ActivityTable
from dicomnode.workflow.reception import Reception
from tests import tools
from tests.neighbours import run, storescu
from tests.network.nodes import Node, node
from tests.network.test_acceptor import foreign
from tests.unit.network.samples import EXPLICIT_LITTLE, IMPLICIT_LITTLE, SECONDARY_CAPTURE, small_object
from tests.unit.workflow.samples import KEY, Events, Time

CT = "1.2.840.10008.5.1.4.1.1.2"
JPIP, SMPTE, JPEG, J2K, J2K_LOSSY = (
    "1.2.840.10008.1.2.4.94",
    "1.2.840.10008.1.2.7.1",
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
)


class Rows:
    """An index that only remembers."""

    def add(self, row: Any) -> None:
        """Nothing to do."""


class Place:
    """A node with a spool, and what is in it."""

    def __init__(self, target: Node, spool: Spool, activity: ActivityTable) -> None:
        self.target, self.spool, self.activity = target, spool, activity

    def held(self) -> dict[str, list[bytes]]:
        """Data Sets by SOP Instance UID."""
        found: dict[str, list[bytes]] = {}
        for study_key, address, metadata in self.spool.recover():
            assert study_key == blind_key(KEY, "study", metadata.study_instance_uid)
            found.setdefault(metadata.sop_instance_uid, []).append(self.spool.read(study_key, address)[1])
        return found


@contextmanager
def place(folder: Path, **intake: Any) -> Iterator[Place]:
    settings = IntakeSection.model_validate({"write_mode": "append", "minimum_free_bytes": 0, **intake})
    time, activity = Time(), ActivityTable()
    with contextlib.closing(Spool(folder, settings, MemoryKeys())) as spool:
        reception = Reception(
            spool=cast("Any", spool),
            digest=ContentDigests(KEY).begin,
            indexer=cast("Any", Rows()),
            activity=activity,
            derivation_key=KEY,
            wake=lambda: None,
            clock=time.now,
            monotonic=time.monotonic,
            emit=Events(),
        )
        with node(cast("Any", reception), intake=intake) as target:
            yield Place(target, spool, activity)


def image(number: int, study: str = "1.2.3") -> OutgoingObject:
    data = small_object(f"1.2.3.{number}", study_instance_uid=study)
    return OutgoingObject(
        result_id=str(number),
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=f"1.2.3.{number}",
        transfer_syntax_uid=EXPLICIT_LITTLE,
        encoded=encode_dataset(data, EXPLICIT_LITTLE),
    )


def sent(target: Node, images: Sequence[OutgoingObject]) -> list[int | None]:
    return [one.status for one in target.requestor().store(images)]


def expected(images: Sequence[OutgoingObject]) -> dict[str, list[bytes]]:
    return {one.sop_instance_uid: [bytes(one.encoded)] for one in images}


def test_one_study_over_sixteen_associations_at_once(tmp_path: Path) -> None:
    images = [image(number) for number in range(64)]
    answers: list[int | None] = []
    with place(tmp_path) as where:
        together = threading.Barrier(16)

        def send(part: int) -> None:
            together.wait(20)
            answers.extend(sent(where.target, images[part::16]))

        threads = [threading.Thread(target=send, args=(part,)) for part in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert answers == [0] * 64
        assert where.held() == expected(images)


def test_one_association_per_image(tmp_path: Path) -> None:
    images = [image(number) for number in range(10)]
    with place(tmp_path) as where:
        assert [sent(where.target, [one]) for one in images] == [[0]] * 10
        assert where.held() == expected(images)
        (study,) = where.activity.snapshot()
        assert study.study_key == blind_key(KEY, "study", "1.2.3")


def test_several_studies_interleaved_in_one_association(tmp_path: Path) -> None:
    images = [image(number, f"1.2.3.9{number % 3}") for number in range(12)]
    with place(tmp_path) as where:
        assert sent(where.target, images) == [0] * 12
        assert where.held() == expected(images)
        assert len(where.activity.snapshot()) == 3


def test_an_aborted_association_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    with place(tmp_path) as where:
        association = associate(where.target, [build_context(SECONDARY_CAPTURE, EXPLICIT_LITTLE)])
        assert association.send_c_store(foreign("1.2.3.1")).Status == 0
        association.abort()
        association.join(10)
        assert list(where.held()) == ["1.2.3.1"]
        assert sent(where.target, [image(2)]) == [0]


def test_dcmtk_that_aborts_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(encode_part10(small_object("1.2.3.1"), transfer_syntax_uid=EXPLICIT_LITTLE))
    with place(tmp_path / "spool") as where:
        storescu(where.target.port, "--abort", path, called="DICOMNODE")
        assert list(where.held()) == ["1.2.3.1"]


def test_a_quota_refuses_and_recovers_and_loses_nothing(tmp_path: Path) -> None:
    quota = {"maximum_spool_bytes": 64 * 1024, "extent_bytes": 4096, "chunk_bytes": 4096}
    with place(tmp_path, **quota) as where:
        answers: list[int | None] = []
        for number in range(60):  # one association each: the first that is not let in ends it
            (outcome,) = where.target.requestor().store([image(number)])
            if outcome.status is None:
                assert outcome.error is not None
                assert outcome.error.code == "peer-rejected", "who comes now is told before sending"
                assert outcome.error.retryable
                break
            answers.append(outcome.status)
        else:
            pytest.fail("nothing was refused")
        kept = [f"1.2.3.{number}" for number, status in enumerate(answers) if status == 0]
        assert set(answers) <= {0, 0xA700}
        assert len(kept) > 3
        assert sorted(where.held()) == sorted(kept)
        where.spool.purge(blind_key(KEY, "study", "1.2.3"))
        where.spool._quota._look_again_at = float("-inf")  # the time until it looks again is over
        assert sent(where.target, [image(99)]) == [0]


def test_a_quota_answers_inside_an_association(tmp_path: Path) -> None:
    quota = {"maximum_spool_bytes": 64 * 1024, "extent_bytes": 4096, "chunk_bytes": 4096}
    with place(tmp_path, **quota) as where:
        answers = sent(where.target, [image(number) for number in range(120)])
        first = answers.index(0xA700)
        assert answers == [0] * first + [0xA700] * (120 - first)
        assert sorted(where.held()) == sorted(f"1.2.3.{number}" for number in range(first))


def associate(target: Node, contexts: list[Any], *items: Any, pdu: int = 16384) -> Any:
    entity = Entity("FOREIGN")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    association = entity.associate(target.host, target.port, contexts, ext_neg=list(items) or None, max_pdu=pdu)
    assert association.is_established
    return association


def released(association: Any) -> None:
    association.release()
    association.join(10)
    assert association.is_released


@pytest.mark.parametrize(
    ("proposed", "chosen"),
    [
        ([IMPLICIT_LITTLE, EXPLICIT_LITTLE], EXPLICIT_LITTLE),
        ([JPEG, J2K_LOSSY, J2K, IMPLICIT_LITTLE], IMPLICIT_LITTLE),
        ([JPEG, J2K_LOSSY, J2K], J2K),
        ([JPEG, J2K_LOSSY], J2K_LOSSY),
        ([JPIP, JPEG], JPEG),
    ],
)
def test_native_comes_first_then_lossless_then_lossy(proposed: list[str], chosen: str) -> None:
    with node() as target:
        association = associate(target, [build_context(CT, proposed)])
        assert [str(one.transfer_syntax[0]) for one in association.accepted_contexts] == [chosen]
        released(association)


def test_references_and_streams_are_refused() -> None:
    with node() as target:
        contexts = [build_context(CT, [JPIP]), build_context(CT, [SMPTE]), build_context(CT, [EXPLICIT_LITTLE])]
        association = associate(target, contexts)
        assert [one.result for one in association.rejected_contexts] == [4, 4]
        released(association)


def test_a_hundred_and_twenty_eight_contexts_are_used() -> None:
    classes = sorted(storage_classes())[:128]
    with node() as target:
        association = associate(target, [build_context(one, [EXPLICIT_LITTLE]) for one in classes])
        assert len(association.accepted_contexts) == 128
        for number, uid in enumerate((classes[0], classes[-1])):
            data = foreign(f"1.2.3.{number}")
            data.SOPClassUID = UID(uid)
            assert association.send_c_store(data).Status == 0
        released(association)


@pytest.mark.parametrize("size", [0, 4096, 131072, 0xFFFFFFFF])
def test_a_peer_may_take_any_size_and_we_always_say_one(size: int) -> None:
    with node() as target:
        association = associate(target, [build_context(SECONDARY_CAPTURE, EXPLICIT_LITTLE)], pdu=size)
        assert association.acceptor.maximum_length == 131072
        assert association.send_c_store(foreign("1.2.3.1")).Status == 0
        released(association)


@pytest.mark.parametrize("size", ["4096", "131072"])
def test_dcmtk_with_its_smallest_and_largest_pdu(size: str, tmp_path: Path) -> None:
    path = tmp_path / "one.dcm"
    path.write_bytes(encode_part10(small_object(), transfer_syntax_uid=EXPLICIT_LITTLE))
    with node() as target:
        done = storescu(target.port, "--max-pdu", size, "--max-send-pdu", size, path, called="DICOMNODE")
        assert done.returncode == 0, done.stderr


def identity(kind: int, primary: bytes, secondary: bytes = b"") -> UserIdentityNegotiation:
    item = UserIdentityNegotiation()
    item.user_identity_type, item.primary_field = kind, primary
    if secondary:
        item.secondary_field = secondary
    item.positive_response_requested = True
    return item


IDENTITIES = [
    identity(1, b"user"),
    identity(2, b"user", b"passcode"),
    identity(3, b"ticket"),
    identity(4, b"<saml/>"),
    identity(5, b"a.b.c"),
]


@pytest.mark.parametrize("item", IDENTITIES, ids=["username", "passcode", "kerberos", "saml", "jwt"])
def test_an_identity_is_not_answered_and_not_written_down(item: UserIdentityNegotiation) -> None:
    """PS3.7 D.3.3.7: without an answer the peer knows that it was not looked at."""
    with node() as target:
        association = associate(target, [build_context(SECONDARY_CAPTURE, EXPLICIT_LITTLE)], item)
        assert association.acceptor.user_identity is None
        assert association.send_c_store(foreign("1.2.3.1")).Status == 0
        released(association)
        for secret in ("user", "passcode", "ticket", "saml", "a.b.c"):
            assert secret not in repr(target.events.events)


def test_operations_roles_and_extensions_are_answered_as_they_are_offered() -> None:
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 8
    extended = SOPClassExtendedNegotiation()
    extended.sop_class_uid, extended.service_class_application_information = UID(CT), b"\x00\x00\x00\x00\x00\x00"
    related = SOPClassCommonExtendedNegotiation()
    related.sop_class_uid, related.service_class_uid = UID("1.2.3.4.5"), UID("1.2.840.10008.4.2")
    related.related_general_sop_class_identification = [UID(CT)]
    role = build_role(CT, scu_role=True, scp_role=True)
    with node() as target:
        contexts = [build_context(CT, EXPLICIT_LITTLE), build_context("1.2.3.4.5", EXPLICIT_LITTLE)]
        association = associate(target, contexts, window, extended, related, role)
        theirs = association.acceptor
        assert theirs.asynchronous_operations == (1, 1)
        assert theirs.sop_class_extended == {CT: bytes((2, 0, 3, 0, 0))}
        assert theirs.role_selection == {}, "the default roles hold"
        assert [str(one.abstract_syntax) for one in association.accepted_contexts] == [CT]
        released(association)


def test_a_message_for_a_service_that_is_not_of_its_context_is_refused() -> None:
    with node() as target:
        association = associate(target, [build_context(SECONDARY_CAPTURE, EXPLICIT_LITTLE)])
        from pynetdicom.dimse_primitives import C_ECHO

        request = C_ECHO()
        request.MessageID, request.AffectedSOPClassUID = 1, SECONDARY_CAPTURE
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, 1)
        _, response = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        assert response.Status == 0x0211
        released(association)


def test_dcmtk_sees_every_kind_of_context(tmp_path: Path) -> None:
    tools.require("echoscu")
    with node() as target:
        done = run("echoscu", "-v", "--propose-ts", "38", "--propose-pc", "128", "127.0.0.1", str(target.port))
        assert done.returncode == 0, done.stderr
