"""Fetching by DICOMweb: QIDO-RS names the instances of a series, WADO-RS gives each (PS3.18 10.4, 10.6).

One request for each instance over one connection: memory is bounded by one object, and each has its own answer.
"""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator, Mapping
from email.message import Message
from typing import Final
from urllib.parse import quote

from dicomnode.encoded import Limits, scan_header, split_part10
from dicomnode.errors import PeerError, PeerRefusal, StudyError
from dicomnode.network.dicomweb import HTTP_STATUSES, WebRequestor
from dicomnode.network.retrieval import Taking
from dicomnode.network.status import StatusKind
from dicomnode.sections import Place

_ACCEPT: Final = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_MOST_PARTS: Final = 64
_AROUND_BYTES: Final = 1024 * 1024  # what a message has around an object
_LEAST_SECONDS: Final = 0.1


class WebRetriever(WebRequestor):
    """A source, as the node asks it by DICOMweb.

    Parameters
    ----------
    destination
        As of `WebRequestor`.
    maximum_object_bytes
        What one object may have; and never more than may still come.
    """

    def __init__(self, destination: Place, *, maximum_object_bytes: int = sys.maxsize) -> None:
        super().__init__(destination)
        self._maximum_object_bytes = maximum_object_bytes

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        """QIDO-RS, by the names of C-FIND; attributes without a value are asked for (PS3.18 8.3.4.3)."""
        asked = [name for name, value in query.items() if not value]
        given = {name: value for name, value in query.items() if value}
        return super().find(level, {**given, **({"includefield": ",".join(asked)} if asked else {})}, seconds)

    def retrieve(self, taking: Taking) -> None:
        """WADO-RS of each instance that is wanted; raises PeerError if the source is not there, refuses or breaks off."""
        wanted = taking.wanted
        study, series = (quote(uid, safe="") for uid in (wanted.study_instance_uid, wanted.series_instance_uid))
        path = f"/studies/{study}/series/{series}/instances"
        uids = wanted.sop_instance_uids or self._instances(taking)
        with self._connected(taking.allowance.seconds) as connection:
            for uid in uids:
                if taking.is_over:
                    break
                self._one(connection, f"{path}/{quote(uid, safe='')}", taking)
        if not taking.allowance.seconds:
            raise PeerError("timeout")

    def _instances(self, taking: Taking) -> tuple[str, ...]:
        query = {
            "StudyInstanceUID": taking.wanted.study_instance_uid,
            "SeriesInstanceUID": taking.wanted.series_instance_uid,
            "SOPInstanceUID": "",
        }
        found = (one.get("SOPInstanceUID", "") for one in self.find("IMAGE", query, taking.allowance.seconds))
        return tuple(dict.fromkeys(uid for uid in found if uid))

    def _one(self, connection: http.client.HTTPConnection, path: str, taking: Taking) -> None:
        connection.putrequest("GET", self._path + path)
        for name, value in {"Accept": _ACCEPT, **self._authorization()}.items():
            connection.putheader(name, value)
        connection.endheaders()
        left = max(taking.allowance.seconds, _LEAST_SECONDS)
        most = min(self._maximum_object_bytes, taking.allowance.size) + _AROUND_BYTES
        status, headers, body = self._answer(connection, left, most)
        if status in (404, 410):  # gone meanwhile: what came is counted
            return
        if status != 200:
            code, what = HTTP_STATUSES.get(status, ("", StatusKind.PERMANENT))
            if what is StatusKind.TRANSIENT:
                raise PeerError(code, status=status)
            raise PeerRefusal("peer-rejected" if status in (401, 403, 407) else "retrieval-refused", status=status)
        for part in _parts(headers.get("Content-Type", ""), body):
            try:
                transfer_syntax_uid, encoded = split_part10(part)
                header = scan_header(encoded, transfer_syntax_uid, Limits())
            except StudyError:
                raise PeerError("peer-aborted") from None
            taking.offer(header.sop_class_uid, header.sop_instance_uid, transfer_syntax_uid, bytes(encoded))


def _parts(kind: str, body: bytes) -> Iterator[bytes]:
    """Contents of the parts of a multipart message (RFC 2046 5.1.1).

    Raises
    ------
    PeerError
        ``peer-aborted`` where it is none.
    """
    message = Message()
    message["Content-Type"] = kind
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary:
        raise PeerError("peer-aborted")
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode("latin-1"))
    if len(pieces) < 3 or not pieces[-1].startswith(b"--") or len(pieces) > _MOST_PARTS:
        raise PeerError("peer-aborted")
    for piece in pieces[1:-1]:
        head, separator, content = piece.partition(b"\r\n\r\n")
        if not separator:
            raise PeerError("peer-aborted")
        del head
        yield content
