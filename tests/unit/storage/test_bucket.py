"""A bucket, on the library's own store in memory: what is put, what is there already, and what becomes of its errors."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import pytest
from obstore import exceptions
from obstore.store import MemoryStore

from dicomnode.errors import ConfigError, PeerError, PeerRefusal, StudyError
from dicomnode.storage import bucket
from dicomnode.storage.bucket import BucketPlace, BucketShelf, Credentials

SECRET = "planted-secret-access-key"
NAME = "trial/1.2.3/1.2.3.4.dcm"


def place(**changes: Any) -> BucketPlace:
    given: dict[str, Any] = {
        "bucket": "b",
        "prefix": "trial",
        "region": "r",
        "endpoint": None,
        "path_style": True,
        "sse": None,
        "kms_key_id": None,
        "checksums": True,
        "part_bytes": 1000,
        "timeout_seconds": 1.0,
    }
    return BucketPlace(**{**given, **changes})


def credentials() -> Credentials:
    return Credentials(access_key_id="a", secret_access_key=SECRET)


def equal(one: bytes, other: bytes) -> bool:
    return one == other


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def shelf(store: MemoryStore, **changes: Any) -> BucketShelf:
    return BucketShelf(place(**changes), credentials, open_store=lambda *_: store)


@pytest.mark.parametrize("size", [10, 1000, 1001, 5000], ids=["small", "one-part", "two-parts", "parts"])
def test_an_object_is_put_once_with_its_digest(store: MemoryStore, size: int) -> None:
    data = bytes(size)
    assert shelf(store).write("1.2.3", "1.2.3.4", data, same=equal) is True
    found = store.get(NAME)
    assert found.attributes["dicomnode-sha256"] == hashlib.sha256(data).hexdigest()
    assert bytes(found.bytes()) == data
    never = lambda one, other: pytest.fail("the digest says it")  # noqa: E731
    assert shelf(store).write("1.2.3", "1.2.3.4", data, same=never) is False
    assert [one["path"] for one in store.list().collect()] == [NAME]


@pytest.mark.parametrize("size", [10, 5000])
def test_another_content_is_never_written_over(store: MemoryStore, size: int) -> None:
    store.put(NAME, b"x" * size)
    with pytest.raises(StudyError, match="same-uid-other-content"):
        shelf(store).write("1.2.3", "1.2.3.4", b"y" * size, same=equal)
    assert bytes(store.get(NAME).bytes()) == b"x" * size
    assert shelf(store).write("1.2.3", "1.2.3.4", b"y" * size, same=lambda *_: True) is False


def test_an_object_that_bears_the_digest_and_is_shorter_is_not_this_one(store: MemoryStore) -> None:
    data = b"y" * 10
    digest = hashlib.sha256(data).hexdigest()
    store.put(NAME, data[:5], attributes={"dicomnode-sha256": digest})
    with pytest.raises(StudyError, match="same-uid-other-content"):
        shelf(store).write("1.2.3", "1.2.3.4", data, same=equal)


def test_names_are_made_of_uids_alone(store: MemoryStore) -> None:
    assert shelf(store, prefix="").write("1.2", "1.3", b"x", same=equal)
    assert [one["path"] for one in store.list().collect()] == ["1.2/1.3.dcm"]
    for uids in (("../1", "1.2"), ("1.2", "1/2"), ("", "1.2")):
        with pytest.raises(StudyError, match="object-without-uids"):
            shelf(store).write(*uids, b"x", same=equal)


def test_a_bucket_answers_where_nothing_is_found(store: MemoryStore) -> None:
    shelf(store).echo()


class Failing:
    """A library that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def put(self, *_: Any, **__: Any) -> None:
        raise self._error

    def head(self, *_: Any) -> None:
        raise self._error


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (exceptions.PermissionDeniedError(SECRET), "peer-rejected", False),
        (exceptions.UnauthenticatedError(SECRET), "peer-rejected", False),
        (exceptions.NotFoundError(SECRET), "peer-rejected", False),
        (OSError(SECRET), "peer-aborted", True),
    ],
)
def test_errors_are_coded_and_tell_nothing(store: MemoryStore, error: Exception, code: str, retryable: bool) -> None:
    one = shelf(store)
    one._library = Failing(error)  # type: ignore[assignment]
    with pytest.raises(PeerError, match=code) as caught:
        one.write("1.2.3", "1.2.3.4", b"x", same=equal)
    assert caught.value.retryable is retryable
    assert isinstance(caught.value, PeerRefusal) is not retryable
    assert SECRET not in repr(caught.value) + str(caught.value)
    assert caught.value.__suppress_context__


def test_an_object_that_came_shorter_is_no_success(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    one = shelf(store)
    for size in (500, 5000):
        sizes = iter([None, size - 1])
        monkeypatch.setattr(one, "_size", lambda name, sizes=sizes: next(sizes))
        with pytest.raises(PeerError, match="peer-aborted"):
            one.write("1.2.3", f"1.2.3.{size}", bytes(size), same=equal)


def test_without_the_library_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match="extra-missing"):
        BucketShelf(place(), credentials)


def test_credentials_show_nothing_of_themselves() -> None:
    assert SECRET not in repr(credentials())
    assert bucket.Credentials.__dataclass_params__.frozen  # type: ignore[attr-defined]
