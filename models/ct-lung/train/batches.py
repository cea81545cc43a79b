"""The windows of one step: which volumes are drawn, and the loss on them.

May live here: draws that hang on the seed and the step alone. May not: the network, the loop.
"""

from __future__ import annotations

import numpy as np
import torch
from augment import augment
from clouds import MARK, clouded
from plan import BODIES, Clouds, Plan
from samples import Sample, body_sample, phantom_sample
from torch.nn import functional

SHAPES = ((80, 96, 112), (64, 96, 128), (96, 96, 112), (112, 96, 96), (48, 112, 144), (48, 128, 128), (96, 112, 128))
"""Window shapes (z, y, x) at the network's spacing; the body is about 130 voxels wide.

None is thinner than 48: two layers at the coarsest scale make the bfloat16 weight gradient of torch 2.13 on AVX-512
read memory that was never written (seen as infinite gradients, other ones on every try).
"""
BATCH = 2
HALVES = 2
"""Batches of a step after the first phase; their gradients are averaged."""
CLOUDED_PHANTOMS = 150

Real = list[tuple[float, Sample]]
Batch = tuple[torch.Tensor, torch.Tensor]


def loss_of(logits: torch.Tensor, labels: torch.Tensor, weight: float) -> torch.Tensor:
    """Cross entropy plus soft Dice of both lungs; 255 is ignored, what is marked has `weight` in the entropy."""
    known = labels != 255
    marked = (labels >= MARK) & known
    labels = torch.where(marked, labels - MARK, labels)
    target = torch.where(known, labels, torch.zeros_like(labels))
    logits = logits.float()
    entropy = functional.cross_entropy(logits, target, reduction="none") * known * (1.0 + (weight - 1.0) * marked)
    entropy = entropy.sum() / known.sum().clamp(min=1)
    shares = torch.softmax(logits, dim=1)
    dice = torch.zeros(())
    for value in (1, 2):
        truth = ((target == value) & known).float()
        guess = shares[:, value] * known
        dice = dice + 1 - (2 * (truth * guess).sum() + 500.0) / (truth.sum() + guess.sum() + 500.0)
    return entropy + 0.5 * dice


def _real(real: Real, rng: np.random.Generator) -> Sample:
    weights = np.array([weight for weight, _ in real])
    return real[int(rng.choice(len(real), p=weights / weights.sum()))][1]


def pick(plan: Plan, real: Real, rng: np.random.Generator) -> Sample:
    """Choose a volume of the first phase: a real scan in four of ten draws where there are any, else a phantom."""
    if real and rng.random() < 0.4:
        return _real(real, rng)
    return phantom_sample(int(rng.integers(plan.phantoms)), plan.cache)


def pick_clouded(plan: Plan, mix: Clouds, real: Real, rng: np.random.Generator) -> tuple[Sample, bool]:
    """Choose a volume of a later phase, and whether a lobe is to be filled in it after it was bent."""
    kind = rng.random()
    if kind < mix.real and real:
        return clouded(_real(real, rng), rng, filled=mix.real_filled, wet=mix.real_wet), False
    if kind < mix.real + mix.bodies:
        return clouded(body_sample(int(rng.integers(BODIES)), plan.cache), rng, filled=mix.filled, wet=mix.wet), False
    phantoms = min(plan.phantoms, CLOUDED_PHANTOMS)
    return phantom_sample(int(rng.integers(phantoms)), plan.cache), bool(rng.random() < 0.35)


def batch_of(plan: Plan, real: Real, step: int, half: int = 0) -> Batch:
    """Draw a batch of one step; it depends on the seed, the step and, after the first phase, the half alone."""
    mix = plan.phase(step).clouds
    rng = np.random.default_rng([plan.seed, step, half] if mix else [plan.seed, step])
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    pairs = []
    for _ in range(BATCH):
        sample, lobe = pick_clouded(plan, mix, real, rng) if mix else (pick(plan, real, rng), False)
        pairs.append(augment(sample, shape, rng, bowel=(mix.gas, mix.colon) if mix else None, lobe=lobe))
    volumes = torch.from_numpy(np.stack([p[0] for p in pairs]))[:, None]
    labels = torch.from_numpy(np.stack([p[1] for p in pairs]).astype(np.int64))
    return volumes.to(memory_format=torch.channels_last_3d), labels
