"""A destination that speaks DICOMweb (PS3.18): STOW-RS for what goes out, QIDO-RS for what it is asked.

The standard library's HTTP alone: one request for each object, over one connection, so that memory is bounded and each has
its own answer. What the peer does is told in outcomes or `PeerError`, as `requestor` tells it. No redirect is followed.
"""

from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from email.message import Message
from types import MappingProxyType
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from pydicom.datadict import keyword_for_tag

from dicomnode.encoded import wrap_part10
from dicomnode.errors import PeerError, PeerRefusal
from dicomnode.network.requestor import OutgoingObject, StoreOutcome
from dicomnode.network.status import StatusKind, error_of
from dicomnode.network.tls import client_tls
from dicomnode.network.transport import held
from dicomnode.sections import Place

_JSON: Final = "application/dicom+json"
_CHUNK: Final = 256 * 1024
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST: Final = 0xFFFF
_LOOK_SECONDS: Final = 0.01
_LEAST_SECONDS: Final = 0.1
#: Timeouts until an answer is whole.
_ANSWER: Final = 4

#: What an HTTP status says of the server (PS3.18 Table 10.5.3-1, RFC 9110 15): whether asking again can help.
HTTP_STATUSES: Final = MappingProxyType(
    {
        **dict.fromkeys((400, 406, 411, 413, 415, 422), ("peer-refused-object", StatusKind.PERMANENT)),
        **dict.fromkeys((401, 403, 404, 405, 407, 410), ("peer-rejected", StatusKind.PERMANENT)),
        **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 507), ("peer-out-of-resources", StatusKind.TRANSIENT)),
    }
)
#: Statuses whose answer tells of each object (PS3.18 Table 10.5.3-1): all stored, some, none.
_TOLD: Final = frozenset({200, 202, 409})
#: Of a Warning header: there are more items than were given (PS3.18 8.3.4.4).
_MORE: Final = "299"
#: Servers give 10, 50, 100, 200, 1000 items at a time: whatever gives so many is asked whether that was all.
_USUAL_PAGE: Final = 10
_FAILED, _STORED = "00081198", "00081199"
_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")
_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"


class _Answer(NamedTuple):
    """An HTTP answer."""

    status: int
    headers: Message
    body: bytes


class WebRequestor:
    """A destination, as the node calls it by DICOMweb.

    Parameters
    ----------
    destination
        Whom to call, its `url` set.

    Raises
    ------
    ConfigError
        ``tls-failed`` if the destination's TLS files cannot be used.
    """

    def __init__(self, destination: Place) -> None:
        self._destination = destination
        parts = urlsplit(destination.url or "")
        self._path = parts.path.rstrip("/")
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = client_tls(destination.tls) if destination.tls else ssl.create_default_context()

    def store(self, objects: Sequence[OutgoingObject]) -> tuple[StoreOutcome, ...]:
        """STOW-RS (PS3.18 10.5): send objects, in order; one outcome each, whatever happens."""
        outcomes: list[StoreOutcome] = []
        begun = -1
        try:
            with self._connected() as connection:
                for one in objects:
                    begun = len(outcomes)
                    outcomes.append(self._store_one(connection, one))
        except PeerError as error:
            outcomes += [
                StoreOutcome(result_id=one.result_id, status=None, error=error, went_out=number == begun)
                for number, one in list(enumerate(objects))[len(outcomes) :]
            ]
        return tuple(outcomes)

    def echo(self) -> None:
        """Ask for one study: whoever answers, also that it cannot be asked so, is there.

        Raises
        ------
        PeerError
            Unless it answers and lets us in.
        """
        with self._connected() as connection:
            status = self._ask(connection, "GET", "/studies?limit=1", _JSON).status
        if status in (401, 403, 407) or _is_transient(status):
            raise _error_of(status)

    def probe(self, sop_class_uids: Iterable[str]) -> frozenset[str]:
        """All of them: what it does not take it says of each object."""
        return frozenset(sop_class_uids)

    def find(self, level: str, query: Mapping[str, str], seconds: float | None = None) -> list[dict[str, str]]:
        """QIDO-RS (PS3.18 10.6), by the names of C-FIND; in so many seconds, where that is less than usual.

        Raises
        ------
        PeerError
            If the destination is not there, refuses, or answers what cannot be read.
        """
        given = {name: value for name, value in query.items() if value}
        path = "/studies"
        if level != "STUDY":
            path += f"/{quote(given.pop('StudyInstanceUID', ''))}/series"
        if level == "IMAGE":
            path += f"/{quote(given.pop('SeriesInstanceUID', ''))}/instances"
        until = None if seconds is None else time.monotonic() + seconds
        with self._connected(seconds) as connection:
            return self._pages(connection, path, given, until)

    def _pages(
        self, connection: http.client.HTTPConnection, path: str, given: Mapping[str, str], until: float | None
    ) -> list[dict[str, str]]:
        """All pages of an answer (PS3.18 8.3.4.4): a server gives as many items at a time as it likes, and not all say so."""
        found: dict[str, dict[str, str]] = {}
        more, count, size = False, 0, 0
        while True:
            query = {**given, **({"offset": str(count)} if count else {})}
            answer = self._ask(connection, "GET", f"{path}?{urlencode(query)}" if query else path, _JSON, until=until)
            if answer.status not in (200, 204):
                if count and not more:  # it knows no pages: that was all
                    return list(found.values())
                raise _error_of(answer.status)
            page = _parsed(answer.body, list) if answer.status == 200 and answer.body else []
            before, count, size = len(found), count + len(page), size + len(answer.body)
            found.update((json.dumps(item, sort_keys=True), _plain(item)) for item in page)
            more = any(one.lstrip().startswith(_MORE) for one in answer.headers.get_all("Warning", ()))
            if len(found) == before or not (more or count % _USUAL_PAGE == 0):
                if more:  # what it says of others it does not give
                    raise PeerError("peer-aborted")
                return list(found.values())
            if size > _MOST_BYTES:
                raise PeerError("peer-aborted")

    def _store_one(self, connection: http.client.HTTPConnection, one: OutgoingObject) -> StoreOutcome:
        boundary = secrets.token_hex(16)
        file = wrap_part10(
            one.encoded,
            sop_class_uid=one.sop_class_uid,
            sop_instance_uid=one.sop_instance_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
        )
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        parts = (head, file, f"\r\n--{boundary}--\r\n".encode())
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        status, _, body = self._ask(connection, "POST", "/studies", _JSON, kind=kind, parts=parts)
        if status not in _TOLD:
            error = _error_of(status)
            if error.code != "peer-refused-object":
                raise error
            return StoreOutcome(result_id=one.result_id, status=None, error=error)
        said = _said(status, body, one.sop_instance_uid)
        if said is None:
            return StoreOutcome(
                result_id=one.result_id, status=None, error=PeerRefusal("peer-refused-object", status=status)
            )
        return StoreOutcome(result_id=one.result_id, status=said, error=error_of(said))

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        accept: str,
        *,
        kind: str = "",
        parts: Sequence[bytes] = (),
        until: float | None = None,
    ) -> _Answer:
        """A request and its whole answer; PeerError where none comes in time, or until a moment."""
        headers = {"Accept": accept, **self._authorization()}
        if parts:
            headers |= {"Content-Type": kind, "Content-Length": str(sum(map(len, parts)))}
        connection.putrequest(method, self._path + path)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # who refuses early may have said why
            for part in parts:
                for start in range(0, len(part), _CHUNK):
                    connection.send(memoryview(part)[start : start + _CHUNK])
        _wait_until_read(connection, self._destination.timeout_seconds)
        longest = _ANSWER * self._destination.timeout_seconds
        if until is not None:
            longest = min(longest, max(until - time.monotonic(), _LEAST_SECONDS))
        return self._answer(connection, longest, _MOST_BYTES)

    def _answer(self, connection: http.client.HTTPConnection, seconds: float, most: int) -> _Answer:
        """An answer that is whole within so many seconds, of so many bytes at most."""
        with _shut_after(connection, seconds):
            response = connection.getresponse()
            body = response.read(most + 1)
        if len(body) > most:
            raise PeerError("peer-aborted")
        return _Answer(response.status, response.headers, body)

    def _authorization(self) -> dict[str, str]:
        """Read anew for each request: who renews it does not start the node anew."""
        if self._destination.authorization_file is None:
            return {}
        try:
            value = self._destination.authorization_file.read_text("ascii").strip()
        except (OSError, ValueError):
            raise PeerRefusal("peer-rejected") from None
        return {"Authorization": value}

    @contextmanager
    def _connected(self, seconds: float | None = None) -> Iterator[http.client.HTTPConnection]:
        """A connection, closed at the end; whatever goes wrong on it is a PeerError, and so is that it waits for so long."""
        target = self._destination
        timeout = (
            target.timeout_seconds if seconds is None else min(target.timeout_seconds, max(seconds, _LEAST_SECONDS))
        )
        connection: http.client.HTTPConnection
        if self._tls is None:
            connection = http.client.HTTPConnection(target.host, target.port, timeout=timeout)
        else:
            connection = http.client.HTTPSConnection(target.host, target.port, timeout=timeout, context=self._tls)
        try:
            connection.connect()
        except ssl.SSLError:
            connection.close()
            raise PeerError("tls-failed") from None
        except TimeoutError:
            code = "timeout" if connection.sock else "peer-unreachable"
            connection.close()
            raise PeerError(code) from None
        except OSError:
            connection.close()
            raise PeerError("peer-unreachable") from None
        try:
            yield connection
        except TimeoutError:
            raise PeerError("timeout") from None
        except (http.client.HTTPException, OSError, ValueError):
            raise PeerError("peer-aborted") from None
        finally:
            connection.close()


@contextmanager
def _shut_after(connection: http.client.HTTPConnection, seconds: float) -> Iterator[None]:
    """An answer must be whole within so many seconds: a server that trickles would else be waited for without end."""
    ended = threading.Event()

    def shut() -> None:
        ended.set()
        if connection.sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(seconds, shut)
    timer.daemon, timer.name = True, "deadline"
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if ended.is_set():
            raise PeerError("timeout") from None
        raise
    finally:
        timer.cancel()
    if ended.is_set():
        raise PeerError("timeout")


def _wait_until_read(connection: http.client.HTTPConnection, seconds: float) -> None:
    """Wait for as long as the peer takes what the kernel holds for it; TimeoutError where it takes nothing for so long."""
    least, since = sys.maxsize, time.monotonic()
    while connection.sock is not None and (left := held(connection.sock)):
        if left < least:
            least, since = left, time.monotonic()
        elif time.monotonic() - since > seconds:
            raise TimeoutError
        time.sleep(_LOOK_SECONDS)


def _is_transient(status: int) -> bool:
    return HTTP_STATUSES.get(status, ("", None))[1] is StatusKind.TRANSIENT


def _error_of(status: int) -> PeerError:
    """What an HTTP status means that is no success; one that nobody knows is permanent, of the server."""
    code, kind = HTTP_STATUSES.get(status, ("peer-rejected", StatusKind.PERMANENT))
    return (PeerError if kind is StatusKind.TRANSIENT else PeerRefusal)(code, status=status)


def _said(status: int, body: bytes, sop_instance_uid: str) -> int | None:
    """What an answer (PS3.18 10.5.3.3) says of one object, in statuses of C-STORE: the values are the same (Table I.2-2); None: it failed.

    Raises
    ------
    PeerError
        Where it says that not all went well, and not what of this object.
    """
    if status == 200 and not body.strip():
        return 0
    told = _parsed(body, dict) if body.strip() or status != 409 else {}
    for item in _items(told, _FAILED):
        if _first(item, _INSTANCE) == sop_instance_uid:
            reason = _first(item, _FAILURE_REASON)
            return reason if isinstance(reason, int) and 0 < reason <= _MOST else None
    for item in _items(told, _STORED):
        if _first(item, _INSTANCE) == sop_instance_uid:
            warning = _first(item, _WARNING_REASON)
            return warning if isinstance(warning, int) and 0 <= warning <= _MOST else 0
    if status == 409:
        return None
    raise PeerError("peer-aborted")


def _parsed(body: bytes, kind: type) -> Any:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise PeerError("peer-aborted") from None
    if not isinstance(value, kind):
        raise PeerError("peer-aborted")
    return value


def _items(dataset: Mapping[str, Any], tag: str) -> list[Mapping[str, Any]]:
    element = dataset.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _first(item: Mapping[str, Any], tag: str) -> Any:
    element = item.get(tag)
    value = element.get("Value") if isinstance(element, dict) else None
    return value[0] if isinstance(value, list) and value else None


def _plain(item: object) -> dict[str, str]:
    """Keyword to value of an item of DICOM JSON; "" where it is no plain one."""
    found = {}
    dataset: dict[str, Any] = item if isinstance(item, dict) else {}
    for tag in dataset:
        with suppress(ValueError):
            value = _first(dataset, tag)
            if isinstance(value, dict):  # a name (PS3.18 F.2.2); nothing of another kind has these
                value = "=".join(str(value.get(group) or "") for group in _GROUPS).rstrip("=")
            found[keyword_for_tag(int(tag, 16))] = str(value) if isinstance(value, str | int | float) else ""
    return found
