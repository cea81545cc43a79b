"""What one training run does: the command line, its phases, and the course of the rate and of weights within them.

May live here: pure numbers. May not: torch, data.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STEPS = (1500, 0, 0)
"""Steps of the three phases, as for what ships; `1500 3600 560` is what TRAINING.md tells of tries 4 and 5."""
BODIES = 120
"""Bodies into which lung without air and fluid are painted (see `clouds`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """What a phase with lung without air and fluid draws and paints.

    Attributes
    ----------
    heavy
        Weight in the entropy of fluid and of lung without air: most that is as dense is no lung. It falls to 1 before the end.
    real, bodies
        Shares of the draws; the rest are phantoms.
    real_filled, real_wet, filled, wet
        Shares of the real chests and of the bodies in which a lung is filled, or fluid lies.
    gas, colon
        Shares of all.
    """

    heavy: float
    real: float = 0.45
    bodies: float
    real_filled: float
    real_wet: float
    filled: float
    wet: float
    gas: float
    colon: float


SECOND = Clouds(heavy=5.0, bodies=0.35, real_filled=0.3, real_wet=0.15, filled=0.7, wet=0.35, gas=0.4, colon=0.2)
THIRD = Clouds(heavy=1.0, bodies=0.3, real_filled=0.15, real_wet=0.08, filled=0.45, wet=0.3, gas=0.5, colon=0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Steps with one course of the rate; statistics freeze after the share `moving`."""

    first: int
    steps: int
    rate: float
    moving: float
    clouds: Clouds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one training run does; `start` is the ONNX of an earlier phase that was run elsewhere, and the phase after it."""

    out: Path
    data: Path | None
    cache: Path
    chests: Path
    phases: tuple[Phase, Phase, Phase]
    phantoms: int
    seed: int
    resume: bool
    with_left_out: bool
    processes: int
    start: tuple[Path, int] | None = None

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return self.phases[-1].first + self.phases[-1].steps

    def phase(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        return next(phase for phase in reversed(self.phases) if phase.first <= step)

    def rate_at(self, step: int) -> float:
        """Warm up, then fall along a cosine, in each phase."""
        phase = self.phase(step)
        step -= phase.first
        warm = min(1.0, (step + 1) / min(60.0, phase.steps / 10.0))
        return phase.rate * warm * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * step / phase.steps))))

    def weight_at(self, step: int) -> float:
        """Weight of what is marked: heavy for 55 % of a phase, 1 from 80 % on."""
        phase = self.phase(step)
        if phase.clouds is None:
            return 1.0
        left = float(np.clip((0.80 - (step - phase.first) / phase.steps) / 0.25, 0.0, 1.0))
        return 1.0 + (phase.clouds.heavy - 1.0) * left


def parse() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    out, cores = Path("build/train/ct-lung"), min(2, os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=out, help="checkpoint, cache and model.onnx")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real scans; less of them if absent")
    parser.add_argument("--cache", type=Path, default=None, help="folder for phantoms (default: OUT/cache)")
    parser.add_argument("--chests", type=Path, default=None, help="folder for fetched chests (default: OUT/../chests)")
    parser.add_argument("--steps", type=int, nargs=3, default=STEPS, help="steps of the three phases")
    parser.add_argument("--start", type=Path, default=None, help="model.onnx that ended the phase before --phase")
    parser.add_argument("--phase", type=int, default=2, choices=(2, 3), help="with --start: the first phase to run")
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--processes", type=int, choices=(1, 2), default=cores, help="of the second phase")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--with-left-out", action="store_true", help="also learn from the scan kept for reporting")
    given = parser.parse_args()
    one, two, three = given.steps
    first = Phase(first=0, steps=one, rate=given.rate, moving=0.7)
    second = Phase(first=one, steps=two, rate=0.375 * given.rate, moving=0.0, clouds=SECOND)
    third = Phase(first=one + two, steps=three, rate=0.15 * given.rate, moving=0.0, clouds=THIRD)
    return Plan(
        out=given.out, data=given.data if given.data.is_dir() else None, cache=given.cache or given.out / "cache",
        chests=given.chests or given.out.parent / "chests", phases=(first, second, third), phantoms=given.phantoms,
        seed=given.seed, resume=given.resume, with_left_out=given.with_left_out, processes=given.processes,
        start=(given.start, given.phase - 1) if given.start else None,
    )  # fmt: skip
