"""Builds what puts exports into buckets: which bucket, and where its credentials are."""

from __future__ import annotations

import configparser
import stat
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from dicomnode.errors import ConfigError, KeyStoreError
from dicomnode.sections import BucketSection, Export
from dicomnode.storage.bucket import BucketPlace, BucketShelf, Credentials

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def open_bucket(export: Export, section: BucketSection, environment: Mapping[str, str]) -> BucketShelf:
    """The bucket of an export.

    Raises
    ------
    ConfigError
        ``extra-missing``.
    """
    place = BucketPlace(
        bucket=section.bucket,
        prefix=section.prefix,
        region=section.region,
        endpoint=section.endpoint,
        path_style=section.path_style,
        sse=None if section.sse == "default" else section.sse,
        kms_key_id=section.kms_key_id,
        checksums=section.checksums,
        part_bytes=section.part_bytes,
        timeout_seconds=export.timeout_seconds,
    )
    return BucketShelf(place, credentials_of(export.name, section, environment))


def credentials_of(name: str, section: BucketSection, environment: Mapping[str, str]) -> Callable[[], Credentials]:
    """What reads the credentials of an export whenever they are needed: a file that is renewed needs no new start."""
    if section.credentials_file is not None:
        return partial(_of_file, section.credentials_file, private=True)
    folder = environment.get("CREDENTIALS_DIRECTORY")
    if folder and (Path(folder) / f"s3-{name}").is_file():
        return partial(_of_file, Path(folder) / f"s3-{name}", private=False)  # systemd sees to that
    return partial(_of_environment, environment)


def _of_environment(environment: Mapping[str, str]) -> Credentials:
    key, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret:
        raise ConfigError("credentials-missing")
    return Credentials(access_key_id=key, secret_access_key=secret, token=environment.get("AWS_SESSION_TOKEN"))


def _of_file(path: Path, *, private: bool) -> Credentials:
    """As the AWS tools have them.

    Raises
    ------
    ConfigError
        ``credentials-missing`` where they cannot be read, or are not there.
    KeyStoreError
        ``key-permissions`` where others may read them.
    """
    parser = configparser.ConfigParser(interpolation=None, default_section="")
    try:
        if private and path.stat().st_mode & _OTHERS:
            raise KeyStoreError("key-permissions")
        parser.read_string(path.read_text("utf-8"))
        found = parser["default"]
        return Credentials(
            access_key_id=found["aws_access_key_id"],
            secret_access_key=found["aws_secret_access_key"],
            token=found.get("aws_session_token"),
        )
    except (OSError, ValueError, KeyError, configparser.Error):
        raise ConfigError("credentials-missing") from None
