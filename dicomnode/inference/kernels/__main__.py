"""Heads PTX with the digest of its sources: ``python -m dicomnode.inference.kernels FILE <raw >FILE.ptx``; for ``make kernels``."""

from __future__ import annotations

import sys

from dicomnode.inference.kernels import headed

sys.stdout.write(headed(sys.argv[1], sys.stdin.read()))
