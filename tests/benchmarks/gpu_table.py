"""The lines that `make bench-gpu` prints of a study, out of what its parts answered. Pure: what JSON holds in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from statistics import median
from typing import Any

from tests.benchmarks.comparison import Interval, interval, ratios, verdict
from tests.benchmarks.roofline import PRECISIONS, WAYS, Network
from tests.benchmarks.timed_device import around

Found = Mapping[str, Any]
HEAD = ("what", "measured", "floor", "verdict", "predicted")
#: Least ratio to the peer, least share of the roofline, greatest share of what stands around the network.
RATIO, ROOFLINE, AROUND = 2.0, 0.6, 0.15
NAMES = {
    "course": "the node's course",
    "node": "the same through the GPU's process",
    "course-torch": "the node's course, torch's network",
    "torch": "torch channels_last_3d",
    "torch-contiguous": "torch contiguous",
    "cpu": "the node on the CPU",
    "roofline": "peaks of the device",
    "study": "making the study",
    "count": "counting the network",
}
OURS = ("course", "node", "course-torch")
PEERS = ("torch", "torch-contiguous")
#: Of `deploy/docs/benchmarks.md`: an H200, 500 slices of 512 × 512, ct-lung as shipped, at 3 mm.
PREDICTED = {
    "volume to labels": "30 to 40 ms",
    "upload": "12 ms",
    "resample": "1 ms",
    "network": "under 10 ms",
    "labels back": "2 ms",
    "download": "6 ms",
}


@dataclass(frozen=True)
class Line:
    """What stands in the columns of `HEAD`."""

    what: str
    measured: str
    floor: str = ""
    verdict: str = ""
    predicted: str = ""


def lines(found: Found, network: Network | None) -> list[Line]:
    """All that was asked of one study.

    Parameters
    ----------
    found
        ``failed`` (part → why), ``facts``, ``seconds``, ``network``, ``shipped``, ``spent`` (each: by part), ``peaks``,
        ``memory``, ``labels``, ``differing``; ``predicted``: whether the predictions are for this study; ``stand_in``: no
        time says anything of a GPU, so there are no verdicts.
    network
        A study's batches, as they were counted; None: they were not.
    """
    rows = [
        *_ways(found),
        *_network(found, network),
        *_shares(found),
        *_memory(found),
        *(Line(f"labels: {NAMES[part]}", ", ".join(map(str, one))) for part, one in found["labels"].items()),
        *(Line(f"labels that differ: {pair}", f"{share:.5%}") for pair, share in found["differing"].items()),
        *(Line(NAMES[part], f"not measured: {why}") for part, why in found["failed"].items()),
    ]
    return [replace(row, verdict="") for row in rows] if found["stand_in"] else rows


def table(rows: Sequence[Line]) -> str:
    """Text in columns."""
    cells = [HEAD, *(astuple(row) for row in rows)]
    most = [max(len(line[at]) for line in cells if not line[1].startswith("not measured")) for at in range(len(HEAD))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, most, strict=True)).rstrip() for line in cells
    )


def milliseconds(values: Sequence[float]) -> str:
    """Median, and the least and the greatest."""
    middle, low, high = (_figures(1000 * value) for value in (median(values), min(values), max(values)))
    return f"{middle} ms [{low}, {high}]"


def _ways(found: Found) -> Iterator[Line]:
    seconds, predicted = found["seconds"], found["predicted"]
    for part in (*OURS, *PEERS, "cpu"):
        if seconds.get(part):
            by = [str(found["facts"][part].get(one, "")) for one in ("engine", "precision", "window")]
            said = ", ".join(dict.fromkeys(one for one in by if one and one not in by[0].split()))
            once = ", once" if part == "cpu" else ""
            yield Line(f"volume to labels: {NAMES[part]}", f"{milliseconds(seconds[part])}{once}; {said}")
    for part, took in found["shipped"].items():
        hint = PREDICTED["volume to labels"] if predicted else ""
        yield Line(f"volume to labels as shipped: {NAMES[part]}", milliseconds(took), predicted=hint)
    for part in OURS:
        for peer in PEERS:
            if seconds.get(part) and seconds.get(peer):
                ratio = interval(ratios(seconds[peer], seconds[part]))
                name = f"{NAMES[peer]} ÷ {NAMES[part]}"
                yield Line(name, str(ratio), f"≥ {RATIO:g}", verdict(ratio, least=RATIO))


def _network(found: Found, network: Network | None) -> Iterator[Line]:
    peaks = found["peaks"]
    for name in sorted(set().union(*peaks) - {"bytes"}) if peaks else ():
        yield Line(f"peak: product of matrices, {name}", _rate([one[name] for one in peaks], 1e12, "TFLOP/s"))
    if peaks:
        yield Line("peak: copy", _rate([one["bytes"] for one in peaks], 1e9, "GB/s"))
    for part, took in found["network"].items():
        yield Line(f"network alone: {NAMES[part]}", milliseconds(took))
        if network is None:
            continue
        precision = found["facts"][part]["precision"]
        if precision not in PRECISIONS:
            yield Line("  share of the roofline", f"not measured: no peak is known for {precision}")
            continue
        peak, width = PRECISIONS[precision]
        peak = peak if not peaks or peak in peaks[0] else "fp32"
        flops, moved = network.flops, network.bytes_at(width)
        done, sent = ([what / one for one in took] for what in (flops, moved))
        yield Line("  operations", f"{flops / 1e9:.4g} GFLOP, {_rate(done, 1e12, 'TFLOP/s')}")
        yield Line("  bytes, layer by layer", f"{moved / 1e9:.4g} GB, {_rate(sent, 1e9, 'GB/s')}")
        if not peaks:
            continue
        for way in WAYS:
            least = [network.least_seconds(at[peak], at["bytes"], width)[way] for at in peaks]
            part_of = ratios(least, took)
            yield _bounded(f"  share of the roofline, {way}", interval(part_of), least=ROOFLINE)


def _shares(found: Found) -> Iterator[Line]:
    for (part, which), turns in ((tuple(key.split("/")), one) for key, one in found["spent"].items()):
        yield Line(f"step by step, {which}: {NAMES[part]}", milliseconds([sum(turn.values()) for turn in turns]))
        for name in turns[0]:
            took = [turn[name] for turn in turns]
            of_all = median(turn[name] / sum(turn.values()) for turn in turns)
            hint = PREDICTED.get(name, "") if found["predicted"] and which == "shipped" else ""
            yield Line(f"  {name}", f"{milliseconds(took)}, {of_all:.1%}", predicted=hint)
        for at, name in enumerate(("before and after the network, copies apart", "all but the network, copies too")):
            yield _bounded(f"  {name}", interval([around(turn)[at] for turn in turns]), most=AROUND)


def _memory(found: Found) -> Iterator[Line]:
    for part, taken in found["memory"].items():
        if "planned" in taken:
            whole = "at once" if taken["whole"] else "in slabs"
            yield Line(f"device memory of a study, planned: {NAMES[part]}", f"{_mib(taken['planned'])}, {whole}")
            yield Line(f"device memory of a study, measured: {NAMES[part]}", _mib(taken["measured"]))
            yield Line(f"device memory of the network: {NAMES[part]}", _mib(taken["network"]))
        elif taken:
            said = f"{_mib(taken['allocated'])}, {_mib(taken['reserved'])} held"
            yield Line(f"device memory at most: {NAMES[part]}", said)


def _bounded(name: str, share: Interval, *, least: float | None = None, most: float | None = None) -> Line:
    said = f"{share.middle:.1%} [{share.low:.1%}, {share.high:.1%}]"
    floor = f"≥ {least:.0%}" if least is not None else f"< {most:.0%}"
    return Line(name, said, floor, verdict(share, least=least, most=most))


def _rate(values: Sequence[float], unit: float, name: str) -> str:
    return f"{_figures(median(values) / unit)} {name}"


def _figures(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
