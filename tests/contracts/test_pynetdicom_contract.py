"""The private points of pynetdicom and pydicom that the house touches: a new version that moves one fails here."""

from __future__ import annotations

import inspect

import pydicom.misc
import pynetdicom
from pynetdicom import _config, fsm
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler


def test_the_version_is_the_one_that_was_read() -> None:
    assert pynetdicom.__version__ == "3.0.4"


def test_an_association_can_be_paused() -> None:
    association = Association(ApplicationEntity("X"), "requestor")
    assert association._reactor_checkpoint.is_set()
    assert association._is_paused in (True, False)
    assert "_reactor_checkpoint.clear" in inspect.getsource(Association.send_c_store)


def test_a_data_set_to_send_is_asked_for_its_length_and_its_slices() -> None:
    source = inspect.getsource(DIMSEMessage.encode_msg) + inspect.getsource(DIMSEMessage._generate_pdv_fragments)
    assert source.count("self.data_set.getvalue()") == 1
    assert [line.strip() for line in source.splitlines() if "yield bytestream" in line] == [
        "yield bytestream",
        "yield bytestream[offset : offset + fragment_length]",
    ]


def test_a_connection_makes_its_association_in_one_place() -> None:
    assert list(inspect.signature(RequestHandler._create_association).parameters) == ["self"]
    assert "deepcopy(self.server.contexts)" in inspect.getsource(RequestHandler._create_association)
    assert list(inspect.signature(AssociationSocket.recv).parameters) == ["self", "nr_bytes"]
    assert list(inspect.signature(AssociationSocket._shutdown_socket).parameters) == ["self"]
    assert list(inspect.signature(ApplicationEntity._create_socket).parameters) == [
        "self",
        "assoc",
        "address",
        "tls_args",
    ]


def test_a_server_takes_itself_out_of_the_entitys_list() -> None:
    assert "_servers.remove" in inspect.getsource(AssociationServer.shutdown)
    assert ApplicationEntity("X")._servers == []


def test_nothing_is_logged_by_default_handlers() -> None:
    import dicomnode.network.association

    assert dicomnode.network.association.TRANSFER_SYNTAXES
    assert _config.LOG_HANDLER_LEVEL == "none"


def test_pydicom_warns_in_one_place() -> None:
    assert "warnings.warn(" in inspect.getsource(pydicom.misc.warn_and_log)
    assert "_Warnings" in type(pydicom.misc.warnings).__name__  # type: ignore[attr-defined]


def test_a_report_is_served_in_a_thread_of_its_own() -> None:
    """`network.committing` takes the place of what serves it."""
    assert list(inspect.signature(Association._serve_request).parameters) == ["self", "msg", "context_id"]
    source = inspect.getsource(DIMSEServiceProvider.receive_primitive)
    assert "N_EVENT_REPORT" in source
    assert "_serve_request" in source


def test_waiting_goes_through_what_a_requestor_replaces() -> None:
    """`network.transport` decides how long: pynetdicom waits in these four places, and looks at no others."""
    association = Association(ApplicationEntity("X"), "requestor")
    assert association.dimse.msg_queue.empty()
    assert list(inspect.signature(DIMSEServiceProvider.get_msg).parameters) == ["self", "block"]
    assert list(inspect.signature(DIMSEServiceProvider.receive_primitive).parameters) == ["self", "primitive"]
    assert association.dimse.message is None
    assert inspect.getsource(fsm).count("dul.assoc.dimse.receive_primitive(") == 2
    assert list(inspect.signature(DULServiceProvider.receive_pdu).parameters) == ["self", "wait", "timeout"]
    assert list(inspect.signature(AssociationSocket.send).parameters) == ["self", "bytestream"]
    assert list(inspect.signature(AssociationSocket.connect).parameters) == ["self", "primitive"]
    assert association.dul.state_machine.current_state == "Sta1"
    for source in (inspect.getsource(Association), inspect.getsource(ACSE)):
        assert "msg_queue" not in source
        assert "to_user_queue" not in source
    assert "self._ready = threading.Event()" in inspect.getsource(AssociationSocket)
