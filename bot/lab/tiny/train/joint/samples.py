"""Sheets of what a run draws and edits, as the pipeline would."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from diffsynth.diffusion import FlowMatchScheduler
from torch import Tensor

from bot.engine.tiny.tokenizer import EDIT_PREFIX_IDS, PAD_ID
from bot.lab.tiny.train import report
from bot.lab.tiny.train.data import to_network
from bot.lab.tiny.train.flow import joint_block, sample, velocity
from bot.lab.tiny.train.joint.networks import JointNetworks
from bot.lab.tiny.train.joint.objectives import Layers, read_states, seen_states
from bot.lab.tiny.train.joint.prompts import instruction_ids
from bot.lab.tiny.train.joint.seeing import shrunk
from bot.lab.tiny.train.scenes.edits import KINDS, draw_change
from bot.lab.tiny.train.scenes.instructions import instruction

SEED: Final = 11
EDITED = 16
STEPS = 10


@torch.no_grad()
def edited(
    networks: JointNetworks, latents: Tensor, seen: Tensor, prompts: list[str], *,
    steps: int = 10, guidance: float = 4.0, seed: int = 0,
) -> Tensor:  # fmt: skip
    """Return latents of edits by one reference each, as the pipeline draws them.

    `latents` [edits, 16, height / 8, width / 8] are the references', which targets are as large as,
    and `seen` uint8 [edits, 3, 224, 224] what the vision tower sees of them.
    """
    device = latents.device
    rows = [instruction_ids(text, 1) for text in (*prompts, *[""] * len(prompts))]
    assert all(one is not None for one in rows), "an instruction is too long"
    ids = torch.from_numpy(np.stack([one for one in rows if one is not None])).long().to(device)
    pictures = seen_states(networks, seen, Layers())
    states = read_states(networks, ids, torch.cat([pictures, pictures]), Layers())
    text, counts = states[:, EDIT_PREFIX_IDS:], (ids != PAD_ID)[:, EDIT_PREFIX_IDS:]
    scheduler = FlowMatchScheduler("Qwen-Image")
    scheduler.set_timesteps(steps, dynamic_shift_len=latents.shape[-2] * latents.shape[-1] // 4)
    generator = torch.Generator().manual_seed(seed)
    now = torch.randn(latents.shape, generator=generator).to(device)
    twice = torch.cat([latents, latents])
    for timestep in scheduler.timesteps:
        sigma = (timestep / 1000).to(device).expand(len(ids))
        both = velocity(
            networks.editor, torch.cat([now, now]), [twice], sigma, text, counts, joint_block
        ).float()
        positive, negative = both.chunk(2)
        now = scheduler.step(negative + guidance * (positive - negative), timestep, now)
    return now


def write_samples(run: Any, networks: JointNetworks, folder: Path) -> None:
    """Write `samples.png` (drawn) and `edits.png`: pictures above, below them what they became."""
    drawn = sample(networks, list(report.SAMPLES), steps=STEPS, seed=1)  # pyright: ignore[reportArgumentType]
    report.sheet(run.decoded(drawn)).save(folder / "samples.png")
    rng = random.Random(SEED)  # noqa: S311 - pictures, not secrets
    kinds = tuple(KINDS)
    changes = [
        draw_change(rng, holdout=True, kind=kinds[index % len(kinds)]) for index in range(EDITED)
    ]
    texts = [instruction(rng, change) for change in changes]
    pixels = torch.from_numpy(np.stack([np.asarray(one.pictures()[0][0]) for one in changes]))
    pixels = pixels.to(next(networks.parameters()).device)
    latents = edited(networks, run.encoded(pixels), shrunk(pixels), texts, steps=STEPS, seed=1)
    both = torch.stack([to_network(pixels), run.decoded(latents)], 1)
    report.sheet(both.flatten(0, 1), 8).save(folder / "edits.png")
    (folder / "edits.txt").write_text("\n".join(texts) + "\n", "utf-8")
