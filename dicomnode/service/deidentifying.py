"""De-identification of files without a node: out, explained, and back again by a recipient's key."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.encrypted import restore
from dicomnode.deidentification.explain import Explanation, explain
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_file, read_part10, split_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.service import rooms
from dicomnode.service.offline import bytes_of, write_file
from dicomnode.service.rooms import Layout
from dicomnode.storage.recipients import certificates, private_key
from dicomnode.workflow.selection import without_pixels
from dicomnode.workflow.stages import limits_of

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)*")


class _Deidentification:
    """De-identifies files one by one; remembers what each output came from, so that none stands for two contents."""

    def __init__(self, deidentifier: Deidentifier, limits: Limits) -> None:
        self._files = FileDeidentifier(deidentifier, limits)
        self._written: dict[Path, tuple[bytes, bytes]] = {}

    def __call__(self, path: Path, output: Path) -> Path:
        original = bytes_of(path)
        done = self._files.deidentify(original)
        data = done.data
        # Two originals may differ in nothing but what was taken out of them: they are two contents all the same.
        content = hashlib.sha256(split_part10(original)[1]).digest(), hashlib.sha256(data).digest()
        for number in itertools.count(1):
            stem = done.sop_instance_uid
            target = output / (f"{stem}.dcm" if number == 1 else f"{stem}-{number}.dcm")
            if self._written.setdefault(target, content) == content:
                break
        write_file(target, data)
        return target


@contextlib.contextmanager
def deidentify_file(
    tree: Config, environment: Mapping[str, str], policy: str
) -> Iterator[Callable[[Path, Path], Path]]:
    """Function that de-identifies one file into a folder and returns where it wrote.

    The same content again has the same output; another content under the same UID has a file of its own beside it.

    Raises
    ------
    ConfigError
        ``config-invalid`` when there is no such policy.
    """
    rooms.policy_of(tree, policy)
    layout = Layout.of(tree)
    rooms.make_state_folder(layout)
    ring = rooms.open_key_ring(tree, layout, environment, create=True)
    yield _Deidentification(rooms.open_deidentifier(tree, ring, policy), limits_of(tree))


def explain_file(tree: Config, policy: str, path: Path) -> tuple[list[Explanation], str | None]:
    """What is decided for every attribute of a file, and the code of why the file would be withheld, if it would.

    Where it is withheld for its pixels, its attributes are explained all the same. Nothing is made or changed.
    """
    chosen = rooms.policy_of(tree, policy)
    engine = rooms.open_deidentifier(tree, rooms.passing_key_ring(), policy)  # no pseudonym is told
    dataset = read_file(path, limits_of(tree))
    withheld = None
    try:
        output = engine.deidentify(dataset).dataset
    except StudyError as error:
        if error.code != "withheld-pixels":
            raise
        withheld = error.code
        output = engine.deidentify(without_pixels(dataset)).dataset
    return list(explain(dataset, output, chosen, str(dataset.SOPClassUID))), withheld


def reidentify_file(tree: Config, key: Path | None, certificate: Path | None) -> Callable[[Path, Path], Path]:
    """Function that gives one file its original attributes back and returns where it wrote.

    The file is named by the original's SOP Instance UID or, where that is none, as the one that was read.

    Raises
    ------
    ConfigError
        ``state-not-found`` where no key is named and there is no state folder.
    KeyStoreError
        ``key-missing``, ``key-permissions`` or ``key-wrong``.
    """
    layout = Layout.of(tree)
    if key is None:
        rooms.require_state(layout)
    folder = layout.keys
    private = private_key(key or folder / "reidentify.key")
    mine = certificates((certificate or folder / "reidentify.pem",))
    if not mine:
        raise KeyStoreError("key-wrong")

    def reidentify(path: Path, output: Path) -> Path:
        dataset = read_part10(bytes_of(path), limits_of(tree))
        restored = restore(dataset, mine[0], private, limits_of(tree))
        data = encode_part10(restored, transfer_syntax_uid=str(dataset.file_meta.TransferSyntaxUID))
        uid = str(restored.SOPInstanceUID)  # of an envelope, which anybody may have made: it names a file only as a UID
        target = output / f"{uid if _UID.fullmatch(uid) else path.stem}.dcm"
        if target.exists():
            raise StudyError("same-uid-other-content")
        write_file(target, data)
        return target

    return reidentify
