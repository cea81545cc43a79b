"""Builds what asks destinations, before results go, whose study it is, out of the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping

from dicomnode.config import Config
from dicomnode.errors import NodeError
from dicomnode.events import Emit
from dicomnode.network.committing import CommitmentRequestor
from dicomnode.network.dicomweb import WebRequestor
from dicomnode.network.wado import WebRetriever
from dicomnode.results.identity import source_attributes
from dicomnode.sections import Destination
from dicomnode.service import rooms
from dicomnode.service.sourcing import retriever_of
from dicomnode.storage.spool import Spool
from dicomnode.workflow.encoding import Encoding
from dicomnode.workflow.handover import Rooms
from dicomnode.workflow.inquiry import Asked, Asking, Inquiry


def open_inquiry(
    tree: Config,
    storage: Rooms,
    encoding: Encoding,
    requestors: Mapping[str, CommitmentRequestor | WebRequestor],
    *,
    emit: Emit,
) -> Inquiry:
    """What asks, by the destinations' own requestors, or one of the sources in their place.

    Raises
    ------
    ConfigError
        ``tls-failed`` if a source's TLS files cannot be used.
    """
    askings = {
        one.name: _asking(tree, one, requestors[one.name]) for one in tree.destinations if one.identity_check != "off"
    }
    return Inquiry(
        storage.ledger,
        askings=askings,
        identity=lambda key: source_attributes(encoding.whose(key)),
        sender=lambda study_key: _sender(storage, study_key),
        settings=tree.delivery,
        clock=rooms.now,
        monotonic=time.monotonic,
        emit=emit,
    )


def _asking(tree: Config, one: Destination, requestor: CommitmentRequestor | WebRequestor) -> Asking:
    found = [source for source in tree.sources if source.name == one.identity_source]
    asked: Asked
    if found:
        asked = retriever_of(tree, found[0], None)
    else:
        asked = WebRetriever(one) if isinstance(requestor, WebRequestor) else requestor
    return Asking(
        asked=asked,
        titles=frozenset({found[0].ae_title if found else one.ae_title}),
        seconds=min(place.timeout_seconds for place in (one, *found)),
        is_itself=not found,
        is_required=one.identity_check == "required",
    )


def _sender(storage: Rooms, study_key: str) -> str | None:
    """AE title that the first instance of a study came from that can be read; raises where storage fails for now."""
    spool: Spool = storage.spool
    for row in storage.ledger.instances(study_key):
        try:
            return spool.read(study_key, row.address)[0].calling_ae_title
        except NodeError as error:
            if error.may_pass:
                raise
    return None
