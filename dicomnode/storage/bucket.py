"""De-identified objects in a bucket of S3: new, whole, checked by the server; none is ever written over.

An object has its name from the moment at which it is whole: S3 shows nothing of an upload that did not end. Credentials
are asked for when they are needed, and stand in no message. The library (obstore) is an extra and loaded here alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from dicomnode.errors import ConfigError, NodeError, PeerError, PeerRefusal, StudyError
from dicomnode.storage.exported import prove_uids

if TYPE_CHECKING:
    from obstore.store import S3Store

_DIGEST: Final = "dicomnode-sha256"
_RENEW: Final = timedelta(minutes=5)
_LEAST_RATE: Final = 64 * 1024  # bytes a second of a part
_PROBE: Final = "dicomnode-check"
_STATUS: Final = re.compile(r"non-2xx status code: ([1-5][0-9]{2})\b")
_CODE: Final = re.compile(r"<Code>([A-Za-z]{1,64})</Code>")
#: What only an object can be: too large (RFC 9110 15.5.14), or of too long a name (15.5.15), by status or by the word of S3.
_OF_ONE: Final = frozenset({413, 414})
_OF_ONE_BY_CODE: Final = frozenset({"EntityTooLarge", "KeyTooLongError", "MetadataTooLarge"})
_LATER: Final = frozenset({408, 409, 425, 429})  # Request Timeout, Conflict, Too Early, Too Many Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who we are for S3."""

    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPlace:
    """Which bucket, and how it is spoken to.

    Attributes
    ----------
    prefix
        Before the names of objects; may be empty.
    sse, kms_key_id
        Encryption by the server that is asked for; None: as the bucket does.
    checksums
        Whether the server is to check SHA-256.
    part_bytes
        Objects beyond go in parts.
    timeout_seconds
        For one request.
    """

    bucket: str
    prefix: str
    region: str
    endpoint: str | None
    path_style: bool
    sse: str | None
    kms_key_id: str | None
    checksums: bool
    part_bytes: int
    timeout_seconds: float


class BucketShelf:
    """A bucket.

    Parameters
    ----------
    place
        Which.
    credentials
        Asked anew every few minutes; a NodeError where there are none.
    open_store
        Opens the library's store.

    Raises
    ------
    ConfigError
        ``extra-missing`` where the library is not installed.
    """

    def __init__(
        self,
        place: BucketPlace,
        credentials: Callable[[], Credentials],
        *,
        open_store: Callable[[BucketPlace, Callable[[], Credentials]], Any] | None = None,
    ) -> None:
        try:
            import obstore
            from obstore import exceptions
        except ImportError:
            raise ConfigError("extra-missing") from None
        self._library = obstore
        self._exceptions = exceptions
        self._place = place
        self._credentials = credentials
        self._store = (open_store or _open_store)(place, credentials)
        self._conditional: bool | None = None  # whether the server knows conditions; None: nobody has looked

    def write(
        self, study_instance_uid: str, sop_instance_uid: str, data: bytes, *, same: Callable[[bytes, bytes], bool]
    ) -> bool:
        """Put ``<prefix>/<study>/<instance>.dcm``; False: it is there already, as `same` tells of both contents.

        Raises
        ------
        StudyError
            ``same-uid-other-content`` where another content is there; it stays. ``object-without-uids``.
        PeerError
            Where the server is not there, or refuses: ``peer-refused-object`` where that is about this object alone, and
            the next one may be taken.
        """
        prove_uids(study_instance_uid, sop_instance_uid)
        name = "/".join(filter(None, (self._place.prefix, study_instance_uid, f"{sop_instance_uid}.dcm")))
        digest = hashlib.sha256(data).hexdigest()
        with self._errors():
            if self._put(name, data, digest):
                if self._size(name) != len(data):  # a success that was none
                    raise PeerError("peer-aborted")
                return True
            holds = self._holds(name, data, digest, same)
        if holds is None:  # 409 with nothing there: somebody else puts it just now
            raise PeerError("peer-aborted")
        if not holds:
            raise StudyError("same-uid-other-content")
        return False

    def echo(self) -> None:
        """Look for an object that is not there.

        Raises
        ------
        PeerError
            Unless the server is there and lets us look.
        """
        with self._errors():
            self._size(self._place.prefix + _PROBE)

    def _put(self, name: str, data: bytes, digest: str) -> bool:
        """Put an object; False where one has its name.

        The name is asked for before where nothing else keeps an object from being written over: for parts, which have
        no condition, and until the server has shown that it knows conditions (If-None-Match), which not every one does.
        """
        attributes: dict[Any, str] = {"Content-Type": "application/dicom", _DIGEST: digest}
        whole = len(data) <= self._place.part_bytes
        if not (whole and self._conditional) and self._size(name) is not None:
            return False
        if whole:
            fresh = self._create(name, data, attributes)
            if fresh and self._conditional is None:  # the same bytes once more: to be refused
                self._conditional = not self._create(name, data, attributes)
            return fresh
        self._library.put(
            self._store,
            name,
            data,
            attributes=attributes,
            use_multipart=True,
            chunk_size=self._place.part_bytes,
            max_concurrency=1,
        )
        return True

    def _create(self, name: str, data: bytes, attributes: dict[Any, str]) -> bool:
        """Put it under a name that nothing has; False where something has it."""
        try:
            self._library.put(self._store, name, data, attributes=attributes, mode="create", use_multipart=False)
        except self._exceptions.AlreadyExistsError:
            return False
        return True

    def _size(self, name: str) -> int | None:
        """Bytes of an object; None where there is none."""
        try:
            return int(self._library.head(self._store, name)["size"])
        except (self._exceptions.NotFoundError, FileNotFoundError):
            return None

    def _holds(self, name: str, data: bytes, digest: str, same: Callable[[bytes, bytes], bool]) -> bool | None:
        """Whether the object of a name is this one; None where there is none."""
        try:
            found = self._library.get(self._store, name)
        except (self._exceptions.NotFoundError, FileNotFoundError):
            return None
        if found.meta["size"] == len(data) and found.attributes.get(_DIGEST) == digest:
            return True
        return same(bytes(found.bytes()), data)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Whatever the library raises becomes a PeerError without its words: they hold addresses and names."""
        self._credentials()  # what is wrong with them is told as itself, and not as the library's word for it
        known = self._exceptions
        try:
            yield
        except NodeError:
            raise
        except (known.PermissionDeniedError, known.UnauthenticatedError, known.NotFoundError, FileNotFoundError):
            raise PeerRefusal("peer-rejected") from None
        except (known.BaseError, OSError) as error:
            raise _failure_of(error) from None


def _failure_of(error: Exception) -> PeerError:
    """The library has one class for all of these; its words differ.

    A 400 is about the bucket unless it says what is wrong with the object: so is one for a token that is too old.
    """
    said = str(error)
    answered = _STATUS.search(said)
    code = _CODE.search(said)
    if answered is not None and (
        int(answered[1]) in _OF_ONE or (answered[1] == "400" and code is not None and code[1] in _OF_ONE_BY_CODE)
    ):
        return PeerRefusal("peer-refused-object", status=int(answered[1]))
    if answered is not None and int(answered[1]) < 500 and int(answered[1]) not in _LATER:
        return PeerRefusal("peer-rejected", status=int(answered[1]))
    if answered is not None:
        return PeerRefusal("peer-rejected", status=501) if answered[1] == "501" else PeerError("peer-aborted")
    if "kind: Connect" in said or "connect error" in said or "dns error" in said:
        return PeerError("peer-unreachable")
    return PeerError("timeout" if "kind: Timeout" in said else "peer-aborted")


def _open_store(place: BucketPlace, credentials: Callable[[], Credentials]) -> S3Store:
    from obstore.store import S3Store

    def provide() -> Mapping[str, Any]:
        found = credentials()
        return {
            "access_key_id": found.access_key_id,
            "secret_access_key": found.secret_access_key,
            "token": found.token,
            "expires_at": datetime.now(UTC) + _RENEW,
        }

    config: dict[str, Any] = {"region": place.region, "conditional_put": "etag"}
    if place.endpoint is not None:
        config["endpoint"] = place.endpoint
    config["virtual_hosted_style_request"] = not place.path_style
    if place.sse is not None:
        config["server_side_encryption"] = place.sse
    if place.kms_key_id is not None:
        config["sse_kms_key_id"] = place.kms_key_id
    if place.checksums:
        config["checksum_algorithm"] = "SHA256"
    seconds = timedelta(seconds=place.timeout_seconds)
    return S3Store(
        place.bucket,
        config=config,  # type: ignore[arg-type]
        client_options={
            "allow_http": (place.endpoint or "").startswith("http:"),
            "connect_timeout": seconds,
            "read_timeout": seconds,
            "timeout": seconds + timedelta(seconds=place.part_bytes / _LEAST_RATE),  # whoever trickles
        },
        retry_config={"max_retries": 2, "retry_timeout": seconds},
        credential_provider=provide,  # type: ignore[arg-type]
    )
