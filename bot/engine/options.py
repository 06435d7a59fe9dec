"""Options of an engine, and how patient its parent is: silence limits, waits before restarts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

DEFAULT_PIPELINE = "bot.engine.models.build:build"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where the model's files are and how much GPU memory they may take.

    The budget is that of `card_budget`: at most `vram_gb` GiB (None: as much as is free) and
    `gpu_memory_utilization` (0 to 1, None: not set) of the card. `offload` is "stream" (this
    project's streaming) or "stock" (DiffSynth's offloading); `precision` ("int8", "int8-fast",
    "fp8", "fp8-fast", "bf16") and `compile` apply to the former. LoRA files lie in `lora_path`;
    missing files of the model come from `model_source` (see bot/engine/files/download.py).
    `pipeline` names the code that draws, as `module:function`; the function is called with the
    model's name and these options, in the child. `models` are those that the engine may be switched
    to; those that it was switched from keep at most `keep_gib` GiB of main memory (None: as much as
    there is room for).
    """

    model_path: Path
    lora_path: Path = Path("models/loras")
    model_source: str = "huggingface"
    vram_gb: float | None = None
    gpu_memory_utilization: float | None = None
    offload: str = "stream"
    precision: str = "fp8"
    compile: bool = True
    pipeline: str = DEFAULT_PIPELINE
    confinement: str = "off"
    work_path: Path | None = None
    closed: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    keep_gib: float | None = None

    def to_header(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        paths = {"model_path": str(self.model_path), "lora_path": str(self.lora_path)}
        work = None if self.work_path is None else str(self.work_path)
        return (
            asdict(self)
            | paths
            | {"work_path": work, "closed": list(self.closed)}
            | {"models": list(self.models)}
        )

    @classmethod
    def from_header(cls, values: dict[str, Any]) -> Self:
        """Read what `to_header` wrote."""
        paths = {name: Path(values[name]) for name in ("model_path", "lora_path")}
        work = values.get("work_path")
        later = {
            "work_path": None if work is None else Path(work),
            "closed": tuple(values.get("closed", ())),
            "models": tuple(values.get("models", ())),
        }
        named: dict[str, Any] = {**values, **paths, **later}
        return cls(**named)


class Activity(StrEnum):
    """What the child is doing; each activity has its own limit of silence."""

    START = "start"
    LOAD = "load"
    SWITCH = "switch"
    """To another model, and what a job loads besides of its own: watched as loading."""
    ENCODE = "encode"
    COMPILE = "compile"
    DENOISE = "denoise"
    DECODE = "decode"
    SAVE = "save"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class SilenceLimits:
    """Seconds without progress after which the child is taken for stuck and killed.

    A heartbeat is not progress, nor is a step told twice: they prove that the process lives, and
    one whose pipeline hangs still sends them. Seconds in which this process did not run itself
    (it was stopped, or the machine slept) do not count. `whole_load` limits loading with all its
    progress. `obey` is how long a job may take to stop when its consumer has left, `cancel`
    how long one may go on that was cancelled: a new child would have to load the model again, so
    it is long.
    """

    start: float = 60.0
    load: float = 600.0
    switch: float = 600.0
    encode: float = 300.0
    compile: float = 600.0
    denoise: float = 300.0
    decode: float = 300.0
    save: float = 60.0
    write: float = 120.0
    obey: float = 5.0
    cancel: float = 60.0
    whole_load: float = 24 * 3600.0

    def of(self, activity: Activity) -> float:
        """Return the limit of `activity` in seconds."""
        limit: float = getattr(self, activity.value)
        return limit


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart: not at all at first, then twice as long each time."""

    base: float = 1.0
    cap: float = 60.0

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after `failures` deaths in a row."""
        if failures <= 1:
            return 0.0
        return min(self.cap, self.base * 2.0 ** min(failures - 2, 32))


LoadProgress = Callable[[str, float | None], None]
"""Called with a short phrase and the share done (0 to 1) where known."""
