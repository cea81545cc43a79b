"""De-identification of ordinary CT slices beside the peers, in one run: `make bench-deidentify`.

CPU time of the process alone, one thread, files in memory or, for programs, on a memory disk where there is one. Every
tool gets the same 512² slices (header of a scanner, Explicit VR Little Endian) and writes files. The tools take turns; a
ratio is a peer's time divided by ours of the same turn, and what is printed is the median of the turns, of the ratios with its
95 % interval (bootstrap). No peer looks at pixels; `export` does by itself, `ai` and "pixels unseen" do not. Absolute numbers are this machine's.
"""

from __future__ import annotations

import importlib.util
import io
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pydicom

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.quick import FileDeidentifier
from dicomnode.encoded import Limits, encode_part10, read_part10
from tests.benchmarks.comparison import interval
from tests.unit.deidentification import planted

SLICES = 500  # as a chest CT has
TURNS = 7
_OURS = "dicomnode, export, quick way"
Tool = tuple[Callable[[], None], int, int]


def slices() -> list[bytes]:
    """A series of 512² slices."""
    rng = np.random.default_rng(1)
    made = []
    for number in range(SLICES):
        ds = planted.slice_of_ct(512, 512)
        ds.SOPInstanceUID, ds.InstanceNumber = f"1.2.826.0.1.3680043.99.1.3.{number + 1}", str(number + 1)
        ds.ImagePositionPatient, ds.SliceLocation = ["-150", "-150", str(number * 1.5)], str(number * 1.5)
        ds.ContentTime = f"10{11 + number // 60:02}{number % 60:02}"
        ds.PixelData = np.clip(rng.normal(1000, 200, (512, 512)), 0, 4095).astype("<u2").tobytes()
        made.append(planted.encoded(ds))
    return made


def full(policy: Policy, files: list[bytes]) -> None:
    """Our full way."""
    engine = Deidentifier(policy, Pseudonyms(bytes(range(32)), "bench"))
    for data in files:
        done = engine.deidentify(read_part10(data, Limits())).dataset
        encode_part10(done, transfer_syntax_uid=planted.EXPLICIT)


def quick(deidentifier: Deidentifier, files: list[bytes]) -> None:
    """Our quick way; a node has one engine, and remembers nothing of a series beyond the series."""
    engine = FileDeidentifier(deidentifier, Limits())
    for data in files:
        engine.deidentify(data)


def by_dicognito(files: list[bytes]) -> None:
    """dicognito's library."""
    from dicognito.anonymizer import Anonymizer

    engine = Anonymizer(seed="bench")
    for data in files:
        with pydicom.dcmread(io.BytesIO(data)) as dataset:
            engine.anonymize(dataset)
            dataset.save_as(io.BytesIO())


def by_dicom_anonymizer(files: list[bytes]) -> None:
    """dicom-anonymizer's library."""
    from dicomanonymizer import anonymize_dataset

    for data in files:
        dataset = pydicom.dcmread(io.BytesIO(data))
        anonymize_dataset(dataset)
        dataset.save_as(io.BytesIO())


def by_deid(folder: Path) -> None:
    """deid's library; it takes files."""
    from deid.dicom import get_files, get_identifiers, replace_identifiers

    paths = list(get_files(str(folder)))
    out = folder.with_name("deid-out")
    out.mkdir()
    replace_identifiers(paths, ids=get_identifiers(paths), save=True, output_folder=str(out))


def by_gdcmanon(folder: Path) -> None:
    """gdcmanon, a program in C++; its certificate is made before."""
    out = folder.with_name("gdcm-out")
    subprocess.run(
        ["gdcmanon", "-c", folder.with_name("cert.pem"), "-e", "-r", "-i", folder, "-o", out],
        check=True, capture_output=True, timeout=600,
    )  # fmt: skip


def cpu() -> float:
    """CPU seconds of this process and of its children that ended."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def measured(name: str, act: Callable[[], None], count: int) -> float | None:
    """Milliseconds of CPU for each slice, once."""
    before = cpu()
    try:
        act()
    except Exception as error:  # noqa: BLE001 - a peer's fault is told and no result of ours
        print(f"{name:34} failed: {type(error).__name__}")
        return None
    return 1000 * (cpu() - before) / count


def take_turns(tools: dict[str, Tool]) -> dict[str, list[float]]:
    """Milliseconds of each tool in each turn; one that fails takes no further part, a slow one ends before the others."""
    done: dict[str, list[float]] = {}
    for number in range(TURNS):
        for name, (act, count, turns) in list(tools.items()):
            if number < turns:
                milliseconds = measured(name, act, count)
                if milliseconds is None:
                    del tools[name]
                else:
                    done.setdefault(name, []).append(milliseconds)
    return {name: done[name] for name in tools if name in done}


def main() -> None:
    """Measure and print."""
    warnings.simplefilter("ignore")
    root = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
    files = slices()
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name) / "in"
        folder.mkdir()
        for number, data in enumerate(files):
            (folder / f"{number:04}.dcm").write_bytes(data)
        results = take_turns(_tools(folder, files))
    ours = results[_OURS]
    for tool, milliseconds in results.items():
        ratio = interval([one / own for one, own in zip(milliseconds, ours, strict=False)])
        print(f"{tool:34} {median(milliseconds):8.3f} ms CPU a slice   {ratio} x")


def _tools(folder: Path, files: list[bytes]) -> dict[str, Tool]:
    """All that are here: what each does, to how many slices, in how many turns."""
    few = files[:20]
    unseen = replace(EXPORT, look_at_every_image=False)
    engines = [Deidentifier(policy, Pseudonyms(bytes(range(32)), "bench")) for policy in (EXPORT, unseen, AI)]
    tools: dict[str, Tool] = {
        _OURS: (lambda: quick(engines[0], files), SLICES, TURNS),
        "dicomnode, export, pixels unseen": (lambda: quick(engines[1], files), SLICES, TURNS),
        "dicomnode, ai, quick way": (lambda: quick(engines[2], files), SLICES, TURNS),
        "dicomnode, export, full way": (lambda: full(EXPORT, few), len(few), TURNS),
    }
    peers: dict[str, tuple[str, Tool]] = {
        "dicognito": ("dicognito", (lambda: by_dicognito(few), len(few), TURNS)),
        "dicom-anonymizer": ("dicomanonymizer", (lambda: by_dicom_anonymizer(few), len(few), TURNS)),
        "deid": ("deid", (lambda: _anew(folder, "deid-out", by_deid), SLICES, 1)),
    }
    for peer, (module, tool) in peers.items():
        if importlib.util.find_spec(module) is None:
            print(f"{peer:34} not installed (extra bench)")
        else:
            tools[peer] = tool
    if shutil.which("gdcmanon") and _certificate(folder.with_name("cert.pem")):
        tools["gdcmanon"] = (lambda: _anew(folder, "gdcm-out", by_gdcmanon), SLICES, TURNS)
    return tools


def _anew(folder: Path, name: str, act: Callable[[Path], None]) -> None:
    shutil.rmtree(folder.with_name(name), ignore_errors=True)
    with open(os.devnull, "w") as nothing:  # noqa: PTH123 - a peer that prints
        before, sys.stdout = sys.stdout, nothing
        try:
            act(folder)
        finally:
            sys.stdout = before


def _certificate(path: Path) -> bool:
    """A certificate for gdcmanon, which cannot work without one."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=bench", "-keyout", os.devnull, "-out", path],
        check=False, capture_output=True, timeout=60,
    )  # fmt: skip
    return made.returncode == 0


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"({SLICES} slices of 512², {time.monotonic() - began:.0f} s)")
