"""What is sent in each case of `make bench-receive`, with which peers beside, and the floors that it is held to."""

from __future__ import annotations

from dataclasses import dataclass, replace

CT_BYTES = 524_288
SMALL_BYTES = 32_768
FRAME_BYTES = 2 * 1024 * 1024
_ALL = ("dcmtk", "dcmtk-default", "orthanc")
_ORTHANC = (4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of load.

    Attributes
    ----------
    count, pixel_bytes
        Objects in all, and bytes of the pixels of each.
    associations, per_association, studies
        Associations at a time; objects of one association, 0: all of its share; studies that come mixed.
    least, aim
        Of the node's rate divided by tuned DCMTK's.
    orthanc
        The same for Orthanc's.
    fork
        Whether DCMTK runs with ``--fork``.
    kind
        ``speed``; ``setup``: associations without an object, of so many `contexts`; ``frames``: one object of `count` frames.
    cpu_most, memory_most, milliseconds_most
        CPU s/GB, MB above idle of one process, and ms that the node may need.
    like
        Case that it has to be as fast as.
    """

    count: int
    pixel_bytes: int = CT_BYTES
    associations: int = 1
    per_association: int = 0
    studies: int = 1
    fork: bool = False
    tls: bool = False
    kind: str = "speed"
    contexts: int = 1
    node: str = "node"
    peers: tuple[str, ...] = _ALL
    senders: tuple[str, ...] = ("fast", "dcmtk")
    least: float | None = None
    aim: float | None = None
    orthanc: tuple[float, float] = _ORTHANC
    cpu_most: float | None = None
    memory_most: float | None = None
    milliseconds_most: float | None = None
    like: str = ""

    def scaled(self, share: float) -> Case:
        """The same with a share of its objects, four for each association at least."""
        most = self.associations * (4 if self.kind == "speed" else 1)
        return replace(self, count=max(most, int(self.count * share) // self.associations * self.associations))

    def warm(self) -> Case:
        """A few objects of its kind, over one association."""
        return replace(self, count=4, associations=1, per_association=0, studies=1)

    def floor(self, receiver: str) -> tuple[float | None, float | None]:
        """Least ratio and the one that is aimed at, beside one receiver."""
        if receiver == "orthanc":
            return self.orthanc
        return (self.least, self.aim) if receiver == "dcmtk" else (None, None)


def _ct(**other: object) -> Case:
    return Case(**{"count": 500, "cpu_most": 1.0, "memory_most": 60.0, **other})  # type: ignore[arg-type]


def _setup(contexts: int) -> Case:
    return Case(
        count=200, kind="setup", contexts=contexts, senders=("fast",), milliseconds_most=2.0, peers=_ALL, orthanc=(0, 0)
    )


CASES = {
    "ct-1": _ct(least=1.0, aim=1.2),
    "ct-4": _ct(associations=4, fork=True, least=1.1, aim=1.4),
    "ct-8": _ct(count=504, associations=8, fork=True, least=1.1, aim=1.4),
    "small-1": Case(count=5000, pixel_bytes=SMALL_BYTES, fork=True, least=2.5, aim=3.5),
    "small-4": Case(count=5000, pixel_bytes=SMALL_BYTES, associations=4, fork=True, least=3.5, aim=5.0),
    "mammograms": Case(count=20, pixel_bytes=30_000_000, least=1.0, aim=1.2),
    "tls-1": _ct(tls=True, cpu_most=2.5, peers=("dcmtk",)),
    "tls-4": _ct(tls=True, cpu_most=2.5, peers=("dcmtk",), associations=4, fork=True),
    "one-per-image": _ct(per_association=1, fork=True, least=1.0, like="ct-1"),
    "several-studies": _ct(studies=5, least=1.0, aim=1.2, like="ct-1"),
    "study-over-16": _ct(count=512, associations=16, fork=True, least=1.1, aim=1.4, like="ct-8"),
    "null-ct-1": _ct(node="null", peers=("dcmtk", "dcmtk-ignore"), senders=("fast",), least=1.8, cpu_most=None),
    "null-small-4": Case(
        count=5000, pixel_bytes=SMALL_BYTES, associations=4, fork=True, node="null", peers=("dcmtk", "dcmtk-ignore"),
        senders=("fast",), least=1.8,
    ),
    "setup-1": _setup(1),
    "setup-16": _setup(16),
    "setup-128": _setup(128),
    "memory-2gb": Case(
        count=1024, pixel_bytes=FRAME_BYTES, kind="frames", senders=("fast",), peers=("dcmtk",), memory_most=60.0
    ),
    "memory-64": _ct(
        count=512, associations=64, fork=True, senders=("fast",), peers=("dcmtk",), cpu_most=None
    ),
}  # fmt: skip
