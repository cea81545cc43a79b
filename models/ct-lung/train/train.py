"""Train ct-lung: `python models/ct-lung/train/train.py --out FOLDER --data ../shared/data --resume`.

May live here: the command line, the loop, checkpoints, the export. Everything random hangs on the seed and the step's
number, one thread, deterministic algorithms: the same machine and lock give the same weights.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from augment import augment
from network import LungNet, read_onnx, write_onnx
from real import real_samples
from samples import Sample, phantom_sample
from torch.nn import functional

SHAPES = ((80, 96, 112), (64, 96, 128), (96, 96, 112), (112, 96, 96), (48, 112, 144), (48, 128, 128), (96, 112, 128))
"""Window shapes (z, y, x) at the network's spacing; the body is about 130 voxels wide.

None is thinner than 48: two layers at the coarsest scale make the bfloat16 weight gradient of torch 2.13 on AVX-512
read memory that was never written (seen as infinite gradients, other ones on every try).
"""
BATCH = 2
STEPS = (1500, 0, 0)
"""Steps of the phases, as for what ships. The second has disease, filled lobes and colon in every sample (see `augment`) and half
the rate, the third has them in half of the samples and an eighth of the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Steps with a share of `hard` samples and one course of the rate; statistics freeze after the share `moving`."""

    first: int
    steps: int
    rate: float
    hard: float
    moving: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one training run does."""

    out: Path
    data: Path | None
    cache: Path
    phases: tuple[Phase, ...]
    phantoms: int
    seed: int
    resume: bool
    with_left_out: bool
    start: tuple[Path, int] | None = None

    @property
    def steps(self) -> int:
        """Steps of all phases."""
        return self.phases[-1].first + self.phases[-1].steps

    def phase(self, step: int) -> Phase:
        """The phase that a step belongs to."""
        return next(phase for phase in reversed(self.phases) if phase.first <= step)


def parse() -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("build/train/ct-lung"), help="checkpoint, cache and model.onnx"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="real scans; phantoms alone if absent"
    )
    parser.add_argument("--cache", type=Path, default=None, help="folder for phantoms (default: OUT/cache)")
    parser.add_argument("--steps", type=int, nargs=3, default=STEPS, help="steps of the three phases")
    parser.add_argument("--start", type=Path, default=None, help="model.onnx that ended the phase before --phase")
    parser.add_argument("--phase", type=int, default=2, choices=(2, 3), help="with --start: the first phase to run")
    parser.add_argument("--phantoms", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--with-left-out", action="store_true", help="also learn from the scan kept for reporting")
    given = parser.parse_args()
    data = given.data if given.data.is_dir() else None
    if data is None:
        print(
            "no real scans: training on phantoms alone. Measured on a real chest: left lung 0.976 as with real scans, but air"
            " under the table is taken for right lung in wide views (0.42 instead of 0.98; TRAINING.md)"
        )
    one, two, three = given.steps
    first = Phase(first=0, steps=one, rate=given.rate, hard=0.0, moving=0.7)
    second = Phase(first=one, steps=two, rate=given.rate / 2, hard=1.0, moving=0.0)
    third = Phase(first=one + two, steps=three, rate=given.rate / 8, hard=0.5, moving=0.0)
    return Plan(
        out=given.out, data=data, cache=given.cache or given.out / "cache", phases=(first, second, third),
        phantoms=given.phantoms, seed=given.seed, resume=given.resume, with_left_out=given.with_left_out,
        start=(given.start, given.phase - 1) if given.start else None,
    )  # fmt: skip


def loss_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy plus soft Dice of both lungs; 255 is ignored."""
    known = labels != 255
    target = torch.where(known, labels, torch.zeros_like(labels))
    logits = logits.float()
    entropy = (functional.cross_entropy(logits, target, reduction="none") * known).sum() / known.sum().clamp(min=1)
    shares = torch.softmax(logits, dim=1)
    dice = torch.zeros(())
    for value in (1, 2):
        truth = ((target == value) & known).float()
        guess = shares[:, value] * known
        dice = dice + 1 - (2 * (truth * guess).sum() + 500.0) / (truth.sum() + guess.sum() + 500.0)
    return entropy + 0.5 * dice


def pick(plan: Plan, real: list[tuple[float, Sample]], rng: np.random.Generator) -> Sample:
    """Choose a training volume: a real scan in four of ten draws where there are any, else a phantom."""
    if real and rng.random() < 0.4:
        weights = np.array([weight for weight, _ in real])
        return real[int(rng.choice(len(real), p=weights / weights.sum()))][1]
    return phantom_sample(int(rng.integers(plan.phantoms)), plan.cache)


def batch_of(plan: Plan, real: list[tuple[float, Sample]], step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the batch of one step; it depends on the seed and the step alone."""
    rng = np.random.default_rng([plan.seed, step])
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    share = plan.phase(step).hard
    pairs = []
    for _ in range(BATCH):
        hard = share == 1.0 or (share > 0.0 and bool(rng.random() < share))
        pairs.append(augment(pick(plan, real, rng), shape, rng, hard=hard))
    volumes = torch.from_numpy(np.stack([p[0] for p in pairs]))[:, None]
    labels = torch.from_numpy(np.stack([p[1] for p in pairs]).astype(np.int64))
    return volumes.to(memory_format=torch.channels_last_3d), labels


def rate_at(plan: Plan, step: int) -> float:
    """Warm up, then fall along a cosine, in each phase."""
    phase = plan.phase(step)
    step -= phase.first
    warm = min(1.0, (step + 1) / min(60.0, phase.steps / 10.0))
    return phase.rate * warm * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * step / phase.steps))))


class Trainer:
    """Network, averaged weights, optimiser and where they are kept."""

    def __init__(self, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self.plan, self.step = plan, 0
        self.network = LungNet().to(memory_format=torch.channels_last_3d)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = self.fresh_optimiser()
        self.path = plan.out / "checkpoint.pt"
        if plan.start is not None:
            self.step = plan.phases[plan.start[1]].first
        if plan.resume and self.path.exists():
            state = torch.load(self.path, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average, self.step = state["average"], state["step"]
            self.optimiser.load_state_dict(state["optimiser"])
            print(f"resumed at step {self.step}")

    def fresh_optimiser(self) -> torch.optim.AdamW:
        """An optimiser without memory."""
        return torch.optim.AdamW(self.network.parameters(), lr=self.plan.phases[0].rate, weight_decay=1e-4)

    def begin_phase(self) -> None:
        """Go on from the averaged weights of the phase before, normalisation folded: from what its ONNX holds."""
        if self.plan.start is not None and self.step == self.plan.phases[self.plan.start[1]].first:
            before = self.plan.start[0]
        else:
            self.save()
            before = self.plan.out / "model.onnx"
        self.network = read_onnx(before).to(memory_format=torch.channels_last_3d)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = self.fresh_optimiser()

    def learn(self, volumes: torch.Tensor, labels: torch.Tensor) -> float:
        """One step; returns the loss."""
        phase = self.plan.phase(self.step)
        if self.step == phase.first > 0:
            self.begin_phase()
        frozen = self.step > phase.first + phase.moving * phase.steps or phase.moving == 0.0
        self.network.train()
        for module in self.network.modules():
            if frozen and isinstance(module, torch.nn.BatchNorm3d):
                module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = rate_at(self.plan, self.step)
        self.optimiser.zero_grad(set_to_none=True)
        statistics = {name: value.clone() for name, value in self.network.named_buffers()}
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.network(volumes)
        loss = loss_of(logits, labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.step += 1
        if not bool(torch.isfinite(norm) & torch.isfinite(loss.detach())):
            print(f"step {self.step} skipped: loss {float(loss.detach())}, gradient {float(norm)}", flush=True)
            for name, value in self.network.named_buffers():
                value.copy_(statistics[name])
            return float("nan")
        self.optimiser.step()
        done = self.step - phase.first
        keep = min(0.995, done / (done + 10.0))
        for name, value in self.network.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].mul_(keep).add_(value, alpha=1 - keep)
            else:
                self.average[name].copy_(value)
        return float(loss.detach())

    def save(self) -> None:
        """Write checkpoint and ONNX (of the averaged weights), each replaced in one piece."""
        state = {"network": self.network.state_dict(), "average": self.average, "step": self.step}
        partial = self.path.with_suffix(".part")
        torch.save({**state, "optimiser": self.optimiser.state_dict()}, partial)
        partial.rename(self.path)
        network = LungNet()
        network.load_state_dict(self.average)
        write_onnx(network, self.plan.out / "model.onnx.part")
        (self.plan.out / "model.onnx.part").rename(self.plan.out / "model.onnx")


def main() -> None:
    """Run the recipe."""
    plan = parse()
    plan.out.mkdir(parents=True, exist_ok=True)
    for seed in range(plan.phantoms):
        phantom_sample(seed, plan.cache)
        if seed % 20 == 19:
            print(f"phantoms {seed + 1}/{plan.phantoms}", flush=True)
    real = real_samples(plan.data, plan.cache, with_left_out=plan.with_left_out) if plan.data else []
    trainer, began, losses = Trainer(plan), time.monotonic(), []
    first = trainer.step
    while trainer.step < plan.steps:
        losses.append(trainer.learn(*batch_of(plan, real, trainer.step)))
        if trainer.step % 20 == 0:
            pace = (time.monotonic() - began) / (trainer.step - first)
            left = pace * (plan.steps - trainer.step) / 60
            text = f"step {trainer.step}/{plan.steps} loss {np.nanmean(losses[-20:]):.4f} {pace:.2f} s/step, {left:.0f} min left"
            print(text, flush=True)
        if trainer.step % 100 == 0:
            trainer.save()
    trainer.save()
    print(f"written: {plan.out / 'model.onnx'}")


if __name__ == "__main__":
    main()
