"""Train ct-lung: `python models/ct-lung/train/train.py --out FOLDER --data ../shared/data --resume`.

May live here: the loop, checkpoints, the export. Everything random hangs on the seed and the step's number, one thread a
process, deterministic algorithms: the same machine and lock give the same weights, in one process as in two.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from datetime import timedelta

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from batches import HALVES, Batch, Real, batch_of, loss_of
from network import LungNet, read_onnx, write_onnx
from plan import BODIES, Plan, parse
from real import real_samples, with_chest
from samples import body_sample, phantom_sample
from torch import distributed


class Trainer:
    """Network, averaged weights, optimiser and where they are kept."""

    def __init__(self, plan: Plan, *, resume: bool, leads: bool = True) -> None:
        torch.manual_seed(plan.seed)
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(True)
        self.plan, self.path, self.leads = plan, plan.out / "checkpoint.pt", leads
        state = torch.load(self.path, weights_only=True) if resume and self.path.exists() else None
        self.step = state["step"] if state else plan.phases[plan.start[1]].first if plan.start else 0
        views = 2 if self.step > plan.phases[1].first else 1
        self.network = LungNet(views).to(memory_format=torch.channels_last_3d)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = self.fresh_optimiser()
        if state:
            self.network.load_state_dict(state["network"])
            self.average = state["average"]
            self.optimiser.load_state_dict(state["optimiser"])

    def fresh_optimiser(self) -> torch.optim.AdamW:
        """An optimiser without memory."""
        return torch.optim.AdamW(self.network.parameters(), lr=self.plan.phases[0].rate, weight_decay=1e-4)

    def begin_phase(self) -> None:
        """Go on from the averaged weights of the phase before, normalisation folded: from what its ONNX holds."""
        before = self.plan.out / "model.onnx"
        if self.plan.start and self.step == self.plan.phases[self.plan.start[1]].first:
            before = self.plan.start[0]
        elif self.leads:
            self.save()
        if distributed.is_initialized():
            distributed.barrier()  # the other process reads what was just saved
        self.network = read_onnx(before, views=2)
        self.network = self.network.to(memory_format=torch.channels_last_3d)
        self.average = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.optimiser = self.fresh_optimiser()

    def learn(self, batches: list[Batch]) -> float:
        """One step, on the batches that fall to this process; returns their loss."""
        phase = self.plan.phase(self.step)
        if self.step == phase.first > 0:
            self.begin_phase()
        frozen = self.step > phase.first + phase.moving * phase.steps or phase.moving == 0.0
        self.network.train()
        for module in self.network.modules():
            if frozen and isinstance(module, torch.nn.BatchNorm3d):
                module.eval()
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate_at(self.step)
        statistics = {name: value.clone() for name, value in self.network.named_buffers()}
        losses, gradients = zip(*(self.backward(*batch) for batch in batches), strict=True)
        if phase.clouds:
            self.share(list(gradients))
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 2.0)
        self.step += 1
        if not bool(torch.isfinite(norm)):
            print(f"step {self.step} skipped: loss {losses}, gradient {float(norm)}", flush=True)
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
        return float(np.mean(losses))

    def backward(self, volumes: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Loss and gradient of one batch, the latter also where the optimiser looks for it."""
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.network(volumes)
        loss = loss_of(logits, labels, self.plan.weight_at(self.step))
        loss.backward()
        gradient = torch.cat([torch.as_tensor(p.grad).reshape(-1) for p in self.network.parameters()])
        return float(loss.detach()), gradient

    def share(self, gradients: list[torch.Tensor]) -> None:
        """Take the mean of all halves' gradients, those of the other process, too."""
        total = gradients[0]
        if len(gradients) > 1:
            total = total + gradients[1]
        else:
            distributed.all_reduce(total)
        total /= HALVES
        at = 0
        for parameter in self.network.parameters():
            part = total[at : at + parameter.numel()].view_as(parameter)
            parameter.grad, at = part.clone(memory_format=torch.preserve_format), at + parameter.numel()

    def save(self) -> None:
        """Write checkpoint and ONNX (of the averaged weights), each replaced in one piece."""
        state = {"network": self.network.state_dict(), "average": self.average, "step": self.step}
        partial = self.path.with_suffix(".part")
        torch.save({**state, "optimiser": self.optimiser.state_dict()}, partial)
        partial.rename(self.path)
        network = LungNet(self.network.views)
        network.load_state_dict(self.average)
        write_onnx(network, self.plan.out / "model.onnx.part")
        (self.plan.out / "model.onnx.part").rename(self.plan.out / "model.onnx")


def meet(plan: Plan, rank: int) -> None:
    """Join the other process through a file, without a network."""
    place = f"file://{(plan.out / 'meeting').resolve()}"
    distributed.init_process_group("gloo", init_method=place, rank=rank, world_size=2, timeout=timedelta(minutes=20))


def help_out(plan: Plan) -> None:
    """The second process: from the checkpoint at which it was begun, the other half of each step to the end."""
    trainer, real = Trainer(plan, resume=True, leads=False), with_chest(plan, real_samples(plan))
    meet(plan, 1)
    while trainer.step < plan.steps:
        trainer.learn([batch_of(plan, real, trainer.step, 1)])


def prepare(plan: Plan) -> None:
    """Draw what phantoms and bodies the cache lacks."""
    plan.out.mkdir(parents=True, exist_ok=True)
    bodies = BODIES if plan.steps > plan.phases[0].steps else 0  # which the later phases alone draw
    for name, count, draw in (("phantoms", plan.phantoms, phantom_sample), ("bodies", bodies, body_sample)):
        for seed in range(count):
            draw(seed, plan.cache)
            if seed % 20 == 19:
                print(f"{name} {seed + 1}/{count}", flush=True)


def batches_of(plan: Plan, real: tuple[Real, Real], step: int) -> list[Batch]:
    """The batches of a step that fall to the first process."""
    if plan.phase(step).clouds is None:
        return [batch_of(plan, real[0], step)]
    return [batch_of(plan, real[1], step, half) for half in range(HALVES // plan.processes)]


def main() -> None:
    """Run the recipe."""
    plan = parse()
    prepare(plan)
    first = real_samples(plan)
    second = with_chest(plan, first) if plan.steps > plan.phases[0].steps or not first else first
    if not second:
        print(
            "no real scans: training on phantoms alone. Measured: air under the table is taken for right lung in wide views"
        )
    elif not first:
        print("no folder of real scans: one fetched chest alone (see README.md for what that costs)")
    real = first or second, second
    trainer, began, losses = Trainer(plan, resume=plan.resume), time.monotonic(), []
    begun, helping = trainer.step, False
    print(f"from step {begun}", flush=True)
    while trainer.step < plan.steps:
        if plan.phase(trainer.step).clouds and plan.processes == 2 and not helping:
            helping = True
            trainer.save()
            (plan.out / "meeting").unlink(missing_ok=True)
            multiprocessing.get_context("spawn").Process(target=help_out, args=(plan,), daemon=True).start()
            meet(plan, 0)
        losses.append(trainer.learn(batches_of(plan, real, trainer.step)))
        if trainer.step % 20 == 0:
            pace = (time.monotonic() - began) / (trainer.step - begun)
            left = pace * (plan.steps - trainer.step) / 60
            text = f"step {trainer.step}/{plan.steps} loss {np.nanmean(losses[-20:]):.4f} {pace:.2f} s/step, {left:.0f} min left"
            print(text, flush=True)
        if trainer.step % 100 == 0:
            trainer.save()
    trainer.save()
    print(f"written: {plan.out / 'model.onnx'}")


if __name__ == "__main__":
    main()
