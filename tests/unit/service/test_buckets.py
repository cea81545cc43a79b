"""Credentials of a bucket: from a file, of systemd or of the environment; never from what others may read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicomnode.config import ConfigErrors, parse
from dicomnode.errors import ConfigError, KeyStoreError
from dicomnode.sections import Export
from dicomnode.service.buckets import credentials_of, open_bucket

FILE = "[default]\naws_access_key_id = {}\naws_secret_access_key = s%cret\n"


def export(**s3: Any) -> Export:
    given = {"name": "trial", "project": "p1", "s3": {"bucket": "trial-7", **s3}}
    return parse({"exports": [given]}).exports[0]


def key_of(environment: dict[str, str], **s3: Any) -> str:
    one = export(**s3)
    assert one.s3 is not None
    found = credentials_of(one.name, one.s3, environment)()
    assert found.secret_access_key == "s%cret"
    return found.access_key_id


def test_where_credentials_come_from(tmp_path: Path) -> None:
    own, systemd = tmp_path / "own", tmp_path / "credentials"
    own.write_text(FILE.format("of-file"))
    own.chmod(0o400)
    systemd.mkdir()
    environment = {"AWS_ACCESS_KEY_ID": "of-environment", "AWS_SECRET_ACCESS_KEY": "s%cret"}
    assert key_of(environment) == "of-environment"
    environment["CREDENTIALS_DIRECTORY"] = str(systemd)
    assert key_of(environment) == "of-environment"
    (systemd / "s3-trial").write_text(FILE.format("of-systemd"))
    assert key_of(environment) == "of-systemd"
    assert key_of(environment, credentials_file=str(own)) == "of-file"


def test_a_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(FILE.format("old") + "aws_session_token = t\n")
    path.chmod(0o600)
    one = export(credentials_file=str(path))
    assert one.s3 is not None
    read = credentials_of(one.name, one.s3, {})
    assert (read().access_key_id, read().token) == ("old", "t")
    path.write_text(FILE.format("new"))
    assert (read().access_key_id, read().token) == ("new", None)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(FILE.format("a"))
    path.chmod(0o640)
    with pytest.raises(KeyStoreError, match="key-permissions"):
        key_of({}, credentials_file=str(path))


@pytest.mark.parametrize("content", [None, "", "[default]\naws_access_key_id = a\n", "no section", "[default]\nx"])
def test_credentials_that_are_not_there(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_text(content)
        path.chmod(0o400)
    with pytest.raises(ConfigError, match="credentials-missing"):
        key_of({}, credentials_file=str(path))
    with pytest.raises(ConfigError, match="credentials-missing"):
        key_of({"AWS_ACCESS_KEY_ID": "a"})


def test_a_bucket_of_the_configuration_opens() -> None:
    one = export(sse="aws:kms", kms_key_id="k", endpoint="https://s3.example.org", path_style=True)
    assert one.s3 is not None
    assert one.peer == "s3://trial-7/"
    open_bucket(one, one.s3, {})


@pytest.mark.parametrize(
    ("s3", "said"),
    [
        ({"bucket": "A"}, "3 to 63"),
        ({"bucket": "a..b"}, "3 to 63"),
        ({"prefix": "/a"}, "folders such as"),
        ({"prefix": "a/../b"}, "folders such as"),
        ({"endpoint": "http://s3.example.org"}, "needs https"),
        ({"kms_key_id": "k"}, "is for sse aws:kms"),
        ({"secret_access_key": "in the clear"}, "no such setting"),
        ({"part_bytes": 1}, "at least"),
    ],
)
def test_what_is_no_bucket(s3: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        export(**s3)
    assert any(said in problem for problem in caught.value.problems)
