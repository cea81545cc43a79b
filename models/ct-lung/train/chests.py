"""Two chests that come with the package pyradiomics (BSD-3-Clause): fetched with pip once, held to their digests.

May live here: fetching, reading NRRD, the human contour of each tumour. May not: lung labels, training.
Their scanners and kernels are not told: 48 and 61 slices of 5 mm. Whole use: `python models/ct-lung/train/chests.py FOLDER`.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from scans import Scan

PACKAGE = "pyradiomics==3.0.1"
LEARNED, NEVER_LEARNED = "pyradiomics_lung1", "pyradiomics_lung2"
"""The first may be learned from, the second serves for figures alone: it holds a tumour of 48 ml under the chest wall."""
DIGESTS = {
    "lung1_image.nrrd": "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    "lung1_label.nrrd": "e9d9a88054d7bc1d3034193ff907ce6b8c6ba28a7bc3a16f23728982d1b6b50a",
    "lung2_image.nrrd": "aa2b94eec79127ed786798ac8dc3c013010e1692d5787bebfae1a1e9685a4651",
    "lung2_label.nrrd": "cef52738dc51aab69a48fe30639da956d2b911b1c2920439c091fab84727657a",
}


def _whole(path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == DIGESTS[path.name]


def fetch(folder: Path) -> bool:
    """Have the files of both chests in `folder`, by pip where they are missing; False where they cannot be had."""
    if all(_whole(folder / name) for name in DIGESTS):
        return True
    folder.mkdir(parents=True, exist_ok=True)
    print(f"two chests of {PACKAGE} (34.5 MB, BSD-3-Clause) are fetched to {folder}", flush=True)
    with tempfile.TemporaryDirectory() as held:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--no-binary", ":all:", "--dest", held, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        archives = list(Path(held).glob("*.tar.gz"))
        if done.returncode != 0 or not archives:
            print(f"could not be fetched: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
            return False
        _unpack(archives[0], folder)
    return all(_whole(folder / name) for name in DIGESTS)


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as members:
        for member in members:
            name = Path(member.name).name
            content = members.extractfile(member) if name in DIGESTS and "/data/" in member.name else None
            if content is not None:
                partial = folder / f"{name}.part"
                partial.write_bytes(content.read())
                partial.rename(folder / name)


def read_chest(folder: Path, name: str) -> tuple[Scan, np.ndarray]:
    """One chest in canonical orientation and the mask of its tumour (z, y, x), as a human reader drew it.

    Raises
    ------
    ValueError
        If the file is not the one that was fetched, or not axial.
    """
    import nrrd  # of the extra `train`: whoever fetches alone does without

    short = name.removeprefix("pyradiomics_")
    parts = []
    for kind in ("image", "label"):
        path = folder / f"{short}_{kind}.nrrd"
        if not _whole(path):
            raise ValueError(f"{path} is not the file that belongs to this recipe")
        parts.append(nrrd.read(str(path), index_order="C"))
    (hu, header), (mask, _) = parts
    directions = np.asarray(header["space directions"], dtype=float)
    if header["space"] != "left-posterior-superior" or np.any(directions != np.diag(np.diag(directions))):
        raise ValueError(f"{name} is not axial")
    x, y, z = (float(value) for value in np.diag(directions))
    origin = tuple(float(value) for value in header["space origin"])
    scan = Scan(name=name, hu=hu.astype(np.int16), spacing=(z, y, x), origin=(origin[0], origin[1], origin[2]))
    return scan, np.asarray(mask > 0)


def main() -> None:
    """Fetch both chests: chests.py FOLDER."""
    if not fetch(Path(sys.argv[1])):
        sys.exit(1)


if __name__ == "__main__":
    main()
