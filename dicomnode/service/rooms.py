"""Constructs rooms out of the configuration: what the node, the checks and the offline commands build the same way."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dicomnode.config import Config
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.children import DecodingLimits
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.reader import installed_reader
from dicomnode.errors import ConfigError, ModelError, StorageError
from dicomnode.events import Emit
from dicomnode.inference import standin
from dicomnode.inference.package import Package, load_all, shipped_models_folder
from dicomnode.service.engines import gpu_kind, gpu_settings, open_engine
from dicomnode.service.policies import policy_of
from dicomnode.storage.belonging import prove_derivation, prove_wrapping
from dicomnode.storage.datakeys import DataKeys
from dicomnode.storage.keyhook import open_command
from dicomnode.storage.keys import KEY_NAMES, KeyRing, has_credentials, open_credentials, open_keys, ring_of
from dicomnode.storage.ledger import Ledger
from dicomnode.storage.recipients import certificates
from dicomnode.storage.sealed import KEY_BYTES
from dicomnode.storage.spool import Spool
from dicomnode.storage.spool_identity import prove_spool
from dicomnode.study import World
from dicomnode.workflow.analysis import Analyst

#: Why no folder can be made at a path, that another path would mend.
_NO_PLACE: Final = frozenset(
    {errno.EEXIST, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things lie in the state folder."""

    state: Path
    keys: Path
    ledger: Path
    spool: Path
    objects: Path
    clock: Path
    stalls: Path
    key_names: Path

    @classmethod
    def of(cls, tree: Config) -> Layout:
        """Layout of a configuration whose state folder is filled in."""
        if tree.node.state is None:
            raise ValueError("the state folder is filled in before rooms are built")
        state = tree.node.state
        return cls(
            state=state,
            keys=tree.keys.folder or state / "keys",
            ledger=state / "ledger.sqlite",
            spool=state / "spool",
            objects=state / "objects",
            clock=state / "clock.json",
            stalls=state / "stalls.json",
            key_names=state / "key-names.json",
        )


def now() -> datetime:
    """Wall clock."""
    return datetime.now(UTC)


def make_state_folder(layout: Layout) -> None:
    """The state folder, readable by its owner alone.

    Raises
    ------
    ConfigError
        ``state-unusable`` when something else has its name, or no folder may be made there.
    StorageError
        ``storage-failed`` when the disk refuses it.
    """
    try:
        layout.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        number = error.errno or 0
        raise (
            ConfigError("state-unusable") if number in _NO_PLACE else StorageError("storage-failed", errno=number)
        ) from None


def require_state(layout: Layout) -> None:
    """Look whether a node has run on a state folder; nothing is made or changed.

    Raises
    ------
    ConfigError
        ``state-not-found`` where none has, ``state-unusable`` where something else has the folder's name.
    """
    try:
        taken = layout.state.exists() and not layout.state.is_dir()
        found = any(path.exists() for path in (layout.ledger, layout.spool, layout.objects, layout.keys))
    except OSError:  # no right to look
        raise ConfigError("state-unusable") from None
    if taken:
        raise ConfigError("state-unusable")
    if not found:
        raise ConfigError("state-not-found")


def ledger_is_missing(layout: Layout) -> bool:
    """Whether studies were received whose ledger is gone: a new one would pass for theirs."""
    return (
        not layout.ledger.exists()
        and layout.spool.is_dir()
        and any(len(one.name) == 2 for one in layout.spool.iterdir())
    )


def passing_key_ring() -> KeyRing:
    """Keys that are kept nowhere, for what is only looked at."""
    return ring_of({name: secrets.token_bytes(KEY_BYTES) for name in KEY_NAMES}, {})


def open_key_ring(tree: Config, layout: Layout, environment: Mapping[str, str], *, create: bool) -> KeyRing:
    """Keys of systemd's credentials, of the keys folder or of a program, as the configuration says.

    Raises
    ------
    KeyStoreError
        When they are missing, wrong, readable by others, or other ones than the state was begun with.
    """
    ring = _open_key_ring(tree, layout, environment, create=create)
    prove_derivation(layout.key_names, ring, keep=create)
    return ring


def keys_are_ours(tree: Config, environment: Mapping[str, str]) -> bool:
    """Whether the keys are those of the keys folder: not systemd's credentials, not a program's.

    Raises
    ------
    KeyStoreError
        ``key-permissions`` where the credentials may not be looked at.
    """
    return tree.keys.source == "files" or (
        tree.keys.source == "auto" and not has_credentials(_credentials(environment))
    )


def _credentials(environment: Mapping[str, str]) -> Path | None:
    given = environment.get("CREDENTIALS_DIRECTORY")
    return Path(given) if given else None


def _open_key_ring(tree: Config, layout: Layout, environment: Mapping[str, str], *, create: bool) -> KeyRing:
    if tree.keys.source == "command":
        return open_command(tree.keys.command, timeout_seconds=tree.keys.command_timeout_seconds)
    if not keys_are_ours(tree, environment):
        return open_credentials(_credentials(environment) or Path("/run/credentials/dicomnode.service"))
    return open_keys(layout.keys, create=create, sealed_with=(layout.ledger, layout.spool))


def open_ledger(
    tree: Config, layout: Layout, environment: Mapping[str, str], *, create: bool
) -> tuple[KeyRing, Ledger]:
    """Keys and ledger of a state folder whose lock is held; they belong together, or nothing is opened.

    Raises
    ------
    KeyStoreError
        As `open_key_ring`; ``key-wrong`` also where a data key was wrapped by a key that is not there.
    StorageError
        ``ledger-missing``, ``ledger-newer``, ``ledger-failed``.
    """
    if ledger_is_missing(layout):
        raise StorageError("ledger-missing")
    ring = open_key_ring(tree, layout, environment, create=create)
    ledger = Ledger.open(layout.ledger)
    try:
        prove_wrapping(ledger.count_wrapped_keys(), ring)
    except BaseException:
        ledger.close()
        raise
    return ring, ledger


def open_spool(tree: Config, layout: Layout, ledger: Ledger, keys: DataKeys, *, accept: bool = False) -> Spool:
    """Spool of a state folder whose lock is held; it belongs to the ledger, or nothing is written, and that is closed.

    Parameters
    ----------
    accept
        As of `prove_spool`.

    Raises
    ------
    StorageError
        ``spool-missing``; as `Spool`.
    """
    try:
        is_used = any(world is World.IDENTITY for world, _ in ledger.count_wrapped_keys())
        identity = prove_spool(layout.state, layout.spool, is_used=is_used, accept=accept)
        return Spool(layout.spool, tree.intake, keys, identity=identity)
    except BaseException:
        ledger.close()
        raise


def load_packages(tree: Config) -> tuple[Package, ...]:
    """Model packages that are enabled.

    Raises
    ------
    ModelError
        With everything that is wrong with them.
    """
    if tree.models.engine == "stand-in" and tree.models.folder is None:
        return (standin.package(),)
    return load_all(tree.models.folder or shipped_models_folder(), tree.models.enabled)


def open_pseudonyms(tree: Config, ring: KeyRing, project: str | None = None) -> Pseudonyms:
    """Pseudonyms of a project; None: of the configured one."""
    settings = tree.deidentification
    return Pseudonyms(
        ring.derivation,
        project=settings.project if project is None else project,
        default_issuer=settings.default_issuer,
        maximum_date_shift_days=settings.maximum_date_shift_days,
    )


def open_deidentifier(tree: Config, ring: KeyRing, policy: str = "ai", *, project: str | None = None) -> Deidentifier:
    """De-identification of one policy, for a project; None: for the configured one."""
    return Deidentifier(
        policy_of(tree, policy),
        open_pseudonyms(tree, ring, project),
        reader=installed_reader(),
        decoding=DecodingLimits(
            timeout_seconds=tree.reading.decode_timeout_seconds, memory_bytes=tree.reading.decode_memory_bytes
        ),
        recipients=certificates(tree.deidentification.recipients) if policy == "export" else (),
    )


def open_analysts(
    tree: Config,
    ring: KeyRing,
    ledger: Ledger,
    packages: tuple[Package, ...] | None = None,
    *,
    emit: Emit | None = None,
    gpu: bool = False,
) -> dict[str, Analyst]:
    """One analyst for every enabled model, by name.

    Parameters
    ----------
    emit
        Told which engine each model runs on, and why.
    gpu
        Whether the GPU may be used, if there is one: engines are built for it, and kept in the state folder.

    Raises
    ------
    ModelError
        ``no-model`` when there is none; ``model-package-invalid``, ``engine-unavailable``.
    """
    chosen = load_packages(tree) if packages is None else packages
    if not chosen:
        raise ModelError("no-model")
    issued_at = issue_clock(ledger)
    device = gpu_kind(gpu_settings(tree, Layout.of(tree).state, ring), emit) if gpu and emit is not None else None
    analysts: dict[str, Analyst] = {}
    for package in chosen:
        opened = open_engine(tree, package, gpu=device)
        info, name = opened.engine.info, package.manifest.name
        if emit is not None:
            notice: dict[str, str] = {"level": "warning", "reason": opened.notice} if opened.notice else {}
            emit("engine.opened", model=name, engine=str(info), threads=info.threads, text=opened.why, **notice)
        analysts[name] = Analyst(
            package,
            opened.engine,
            open_deidentifier(tree, ring),
            tree=tree,
            derivation_key=ring.derivation,
            issued_at=issued_at,
        )
    return analysts


def issue_clock(ledger: Ledger) -> Callable[[str], datetime]:
    """Moment at which a result was first issued, in local time: the first call for a key decides, for good."""

    def issued_at(key: str) -> datetime:
        return ledger.issue_time(key, now().replace(microsecond=0)).astimezone()

    return issued_at
