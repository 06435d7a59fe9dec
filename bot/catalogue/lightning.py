"""The Lightning distillations of Qwen-Image: LoRA files with which 8 or 4 steps are enough.

Published by lightx2v under the Apache License 2.0. File names, steps, guidance and shift:
https://github.com/ModelTC/Qwen-Image-Lightning (README.md; generate_with_diffusers.py has the
scheduler: exponential shift of log(3) for every size, no terminal shift, `true_cfg_scale` 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SHIFT: Final = 3.0
GUIDANCE: Final = 1.0
STEPS: Final = (8, 4)
"""What there are files for, the better pictures first."""


@dataclass(frozen=True, slots=True)
class Series:
    """The files for one model: where they are published, and how their names begin."""

    repository: str
    prefix: str
    newest: str
    """The newest version, in bfloat16: half the size of float32, and what is computed in."""

    def published(self, steps: int) -> str:
        """Return the name of the published file for this many steps."""
        return f"{self.prefix}-{steps}steps-{self.newest}-bf16.safetensors"


SERIES: Final[Mapping[str, Series]] = {
    "Qwen/Qwen-Image": Series("lightx2v/Qwen-Image-Lightning", "Qwen-Image-Lightning", "V2.0"),
    "Qwen/Qwen-Image-2512": Series(
        "lightx2v/Qwen-Image-2512-Lightning", "Qwen-Image-2512-Lightning", "V1.0"
    ),
}
_NAME: Final = re.compile(
    r"(?P<prefix>.+)-(?P<steps>[48])steps-V(?P<version>\d+(?:\.\d+)*)(?:-.+)?"
)


@dataclass(frozen=True, slots=True)
class Lightning:
    """A file that is there, by its name without `.safetensors`."""

    file: str
    steps: int


def is_lightning(file: str) -> bool:
    """Tell whether a file, by its name without `.safetensors`, is one of any series."""
    match = _NAME.fullmatch(file)
    return match is not None and match["prefix"] in {one.prefix for one in SERIES.values()}


def choose(model: str, files: Iterable[str]) -> Lightning | None:
    """Return the best file for a model: more steps, then the newer version, then bfloat16."""
    series = SERIES.get(model)
    if series is None:
        return None
    found: list[tuple[int, list[int], bool, str]] = []
    for file in files:
        match = _NAME.fullmatch(file)
        if match is not None and match["prefix"] == series.prefix:
            version = [int(part) for part in match["version"].split(".")]
            found.append((int(match["steps"]), version, file.endswith("-bf16"), file))
    if not found:
        return None
    steps, _version, _small, file = max(found)
    return Lightning(file, steps)
