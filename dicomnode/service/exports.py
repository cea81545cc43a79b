"""Builds what exports studies out of the configuration: a way for each export, and the thread that goes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Final

from dicomnode.config import Config
from dicomnode.encoded import Limits, read_part10
from dicomnode.errors import StudyError
from dicomnode.events import Emit
from dicomnode.imaging.decode import Decoder
from dicomnode.network.dicomweb import WebRequestor
from dicomnode.network.requestor import Requestor
from dicomnode.pulses import FAR_SECONDS, Pulse
from dicomnode.sections import Export
from dicomnode.service import rooms
from dicomnode.service.buckets import open_bucket
from dicomnode.service.deidentifying_series import Deidentified, SeriesDeidentification
from dicomnode.service.exporting import Exports, Way
from dicomnode.service.housekeeping import Chore, Households, Housekeeping
from dicomnode.service.rooms import Layout
from dicomnode.service.telemetry import report_fault
from dicomnode.storage.bucket import BucketShelf
from dicomnode.storage.keys import KeyRing
from dicomnode.storage.ledger import Ledger
from dicomnode.study import InstanceRow
from dicomnode.workflow.paces import Paces
from dicomnode.workflow.ports import Clocks
from dicomnode.workflow.provenance import Guard, guard_of
from dicomnode.workflow.reading import limits_of
from dicomnode.workflow.records import Records

_SECONDS: Final = 3.0
#: For one batch of objects, as `pipeline` gives a try to deliver.
_BATCH_SECONDS: Final = 4 * FAR_SECONDS


def open_exports(
    tree: Config,
    ring: KeyRing,
    ledger: Ledger,
    records: Records,
    *,
    environment: Mapping[str, str],
    ready: Callable[[str], bool],
    clocks: Clocks,
    ending: threading.Event,
    emit: Emit,
) -> Households:
    """Threads that carry out orders to export, to be begun: a long export keeps no other chore waiting.

    Raises
    ------
    ConfigError
        ``tls-failed`` if the TLS files of one cannot be used.
    """
    paces = Paces({one.name: one for one in tree.exports}, clock=rooms.now, monotonic=time.monotonic)
    pulses = {one.name: Pulse("exports", _BATCH_SECONDS, destination=one.name) for one in tree.exports}
    ways = {one.name: way_of(tree, ring, records, one, environment, paces=paces) for one in tree.exports}
    exports = Exports(
        ledger,
        ways={name: beating(way, pulses[name]) for name, way in ways.items()},
        state=Layout.of(tree).state,
        limits=limits_of(tree),
        settings=tree.delivery,
        ready=ready,
        ended=ending.is_set,
        report=partial(report_fault, emit),
        clocks=clocks,
        monotonic=time.monotonic,
        emit=emit,
    )
    return threads_of(exports, pulses, emit=emit, pulses=pulses)


def threads_of(
    exports: Exports, names: Iterable[str], *, emit: Emit, pulses: Mapping[str, Pulse] = MappingProxyType({})
) -> Households:
    """A thread for each export of the configuration, so that none waits for another one's peer, and one for all others."""
    keep = partial(Housekeeping, monotonic=time.monotonic, emit=emit, name="exports")
    chore = partial(Chore, name="exports", every_seconds=_SECONDS)
    several = [keep((chore(act=partial(exports.sweep, name)),), pulse=pulses.get(name)) for name in names]
    return Households(keep((chore(act=exports.sweep_others),)), *several)


def beating(way: Way, pulse: Pulse) -> Way:
    """The same way, each object of which is a step."""

    def deidentify(rows: Sequence[InstanceRow]) -> Iterator[Deidentified | StudyError]:
        for one in way.deidentify(rows):
            pulse.beat()
            yield one

    return replace(way, deidentify=deidentify)


def way_of(
    tree: Config,
    ring: KeyRing,
    records: Records,
    export: Export,
    environment: Mapping[str, str] = MappingProxyType({}),
    *,
    paces: Paces | None = None,
) -> Way:
    """One export: how its objects are made, where they go, and when and how fast."""
    to = export.into or outlet_of(tree, export, environment)
    way = Way(to=to, deidentify=partial(_deidentify, tree, ring, records, export))
    if paces is None:
        return way
    return replace(way, wait=partial(paces.wait, export.name), sent=partial(paces.sent, export.name))


def outlet_of(
    tree: Config, export: Export, environment: Mapping[str, str] = MappingProxyType({})
) -> Requestor | WebRequestor | BucketShelf:
    """Who calls the system that an export goes to; of one that goes into a folder, nobody's to use.

    Raises
    ------
    ConfigError
        ``tls-failed`` if its TLS files cannot be used; ``extra-missing``.
    """
    if export.s3 is not None:
        return open_bucket(export, export.s3, environment)
    return WebRequestor(export) if export.url is not None else Requestor(export, tree.node.ae_title)


def _deidentify(
    tree: Config, ring: KeyRing, records: Records, export: Export, rows: Sequence[InstanceRow]
) -> Iterator[Deidentified | StudyError]:
    """What becomes of each instance; what it remembers of identities ends with it."""
    reading, limits = tree.reading, limits_of(tree)
    kept = list(rows)
    if not export.results:
        guard = guard_of(tree, ring.derivation)
        firsts = {row.series_key: row for row in reversed(rows)}  # the node's results are series of their own
        own = {key for key, row in firsts.items() if _is_own(guard, records.file(row), limits)}
        kept = [row for row in rows if row.series_key not in own]
        yield from (StudyError("own-output") for _ in range(len(rows) - len(kept)))
    engine = rooms.open_deidentifier(tree, ring, "export", project=export.project)
    with Decoder(timeout_seconds=reading.decode_timeout_seconds, memory_bytes=reading.decode_memory_bytes) as decoder:
        series = SeriesDeidentification(engine, limits, decoder, records.file)
        for _, done in series.all(kept):
            yield done


def _is_own(guard: Guard, data: bytes, limits: Limits) -> bool:
    try:
        return guard.refusal(read_part10(data, limits, drop_rest=True)) == "own-output"
    except StudyError:  # it is withheld with its own code when it is its turn
        return False
