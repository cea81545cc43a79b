"""Put a trained model.onnx into the package: copy the file, write its SHA-256 and a version into model.toml.

`python models/ct-lung/train/install.py build/train/ct-lung/model.onnx 0.2.0`
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Copy and register."""
    data, version = Path(sys.argv[1]).read_bytes(), sys.argv[2]
    manifest = PACKAGE / "model.toml"
    text = manifest.read_text()
    text = re.sub(r'^sha256 = ".*"$', f'sha256 = "{hashlib.sha256(data).hexdigest()}"', text, flags=re.MULTILINE)
    text = re.sub(r'^version = ".*"$', f'version = "{version}"', text, flags=re.MULTILINE)
    (PACKAGE / "model.onnx").write_bytes(data)
    manifest.write_text(text)
    print(f"ct-lung {version}: {len(data) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
