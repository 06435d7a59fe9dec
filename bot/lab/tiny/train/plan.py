"""Plan of a training run; each field is an option of the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """What to train. A phase ends after its steps or, where those are 0, its seconds."""

    out: Path
    seed: int = 1
    device: str = "cuda"
    replicas: int = 1
    workers: int = 15
    vae_steps: int = 0
    vae_seconds: float = 100.0
    vae_batch: int = 64
    vae_crop: int = 128
    """Side of the squares that most of the VAE's phase looks at: more steps for the same work."""
    vae_rate: float = 2e-3
    steps: int = 0
    seconds: float = 300.0
    batch: int = 512
    rate: float = 2e-3
    warm_up: int = 200
    anneal: float = 0.0
    """Share of the transformer's phase, at its end, in which the rate falls to 0."""
    odd_share: float = 0.1
    pixels: int = 100_000
    scenes: int = 400_000
    resume: Path | None = None
    state: Path | None = None
    """Where the whole state is kept, for going on where a run on the same machine ended."""
    compiled: bool = True
    half: bool = True
    """Compute in bfloat16 (weights, averages and updates stay in float32)."""
    sheet_seconds: float = 60.0
    style: str = ""
    """One of `DRAWN_STYLES`: train a low-rank difference from the stored weights, and no VAE."""
    style_rank: int = 16
    minutes: float = 0.0
    """With `style`: the whole run's time, start and compiling included, instead of `seconds`."""
