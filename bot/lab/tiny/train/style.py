"""A style: a low-rank difference from the stored weights, trained on scenes drawn in that style."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
from safetensors.torch import save_file
from torch import Tensor, distributed, nn

from bot.engine.tiny.stored import WEIGHTS
from bot.lab.tiny.train import report
from bot.lab.tiny.train.flow import sample
from bot.lab.tiny.train.networks import StyledPainter, take_stored
from bot.lab.tiny.train.optimizers import Average
from bot.lab.tiny.train.plan import Plan
from bot.lab.tiny.train.run import AVERAGED, Replica
from bot.lab.tiny.train.store import read_parts

_LAST_SHEET: Final = 15.0
"""Seconds that are kept for the last sheet of samples, where a run's time is limited."""


def style_optimizer(painter: StyledPainter, rate: float) -> torch.optim.Optimizer:
    """Return AdamW for the additions."""
    added = list(painter.trained().values())
    return torch.optim.AdamW(added, lr=rate, betas=(0.9, 0.98), weight_decay=0.0, foreach=True)


class StyleReplica(Replica):
    """One process of a style's run; VAE, text encoder and the stored weights stay as they are."""

    def __init__(self, plan: Plan, rank: int) -> None:
        super().__init__(plan, rank)
        states = read_parts(WEIGHTS, "average")
        vae = {k.removeprefix("vae."): v for k, v in states.items() if k.startswith("vae.")}
        self.vae.load_state_dict(vae)
        self.vae.requires_grad_(requires_grad=False)
        torch.manual_seed(plan.seed)  # the same additions in every replica
        painter = StyledPainter(plan.style_rank)
        take_stored(painter, states)
        self.styled = painter.to(self.device)
        self.painter = self.styled
        self.average = Average(self.painter, AVERAGED)

    def train_style(self) -> None:
        """Train the additions, for as long as the plan says."""
        if self.plan.minutes:
            left = 60 * self.plan.minutes - self.elapsed - _LAST_SHEET
            self.plan = replace(self.plan, steps=0, seconds=max(1.0, left))
        count = sum(value.numel() for value in self.styled.trained().values())
        self.say(f"style {self.plan.style}: {count} parameters of rank {self.plan.style_rank}")
        self.train_painter([style_optimizer(self.styled, self.plan.rate)])

    def save(self, step: int) -> None:
        """Write the averaged additions in FP16, the curves and a sheet of samples."""
        del step
        out, painter = self.plan.out, StyledPainter(self.plan.style_rank).to(self.device)
        self.average.write_to(painter)
        file = out / f"{self.plan.style}.safetensors"
        save_file(halves(painter.trained()), file)
        report.write_curves(self.curves, out / "curves.json")
        with self.precision():
            latents = sample(painter, list(report.SAMPLES), seed=1)
        report.sheet(self.decoded(latents)).save(out / "samples.png")
        self.say(f"saved {file.name}, {file.stat().st_size} bytes")


def halves(added: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the tensors in FP16 on the CPU."""
    return {name: value.detach().half().cpu().contiguous() for name, value in added.items()}


def run_style_replica(rank: int, plan: Plan) -> None:
    """Train a style as `plan` says, as replica `rank`."""
    replica = StyleReplica(plan, rank)
    try:
        replica.train_style()
    finally:
        replica.renderers.close()
        if plan.replicas > 1:
            distributed.destroy_process_group()
