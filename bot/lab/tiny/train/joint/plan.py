"""Plan of a joint run; each field is an option of the command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class JointPlan:
    """What to train, from the stored weights or those of `resume`.

    The run ends after `steps` or, where those are 0, `seconds`, counted from its first step.
    """

    out: Path
    seed: int = 1
    device: str = "cuda"
    workers: int = 15
    chunk: int = 64
    """Lessons that a renderer hands over at a time."""
    chunks: int = 2
    """Chunks that a step takes from the renderers, at most."""
    steps: int = 0
    seconds: float = 480.0
    total: float = 0.0
    """Seconds of the whole process, start and compiling included, instead of `seconds`."""
    draw_batch: int = 192
    edit_batch: int = 320
    """Changes of one picture in a step; of two, half of it and the exchanges' half."""
    talk_batch: int = 384
    """Exchanges about pictures in a step; half as many without one."""
    rate: float = 1.5e-3
    drawing: float = 0.5
    """Rate of the drawing transformer, as a share of the others'."""
    talking: float = 0.25
    """Weight of the cross-entropy beside the squared errors."""
    editor_only: bool = False
    """Train the editing transformer alone; all else stays as it is."""
    often: str = ""
    """A kind of change that more than half of those of one picture are of."""
    warm_up: int = 150
    anneal: float = 0.6
    """Share of the run, at its end, in which the rate falls to 0."""
    scenes: int = 130_000
    edits: int = 160_000
    pairs: int = 40_000
    resume: Path | None = None
    """A folder with `average-*.safetensors` and `curves.json` of an earlier run."""
    state: Path | None = None
    """Where weights, averages and optimizers are kept, for going on on the same machine."""
    compiled: bool = True
    half: bool = True
    """Compute in bfloat16 (weights, averages and updates stay in float32)."""
    save_seconds: float = 240.0
    sheets: bool = True
    """Draw `samples.png` and `edits.png` with what is saved."""
