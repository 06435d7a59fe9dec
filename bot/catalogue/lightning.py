"""The Lightning distillations of Qwen-Image: LoRA files with which 8 or 4 steps are enough.

Published by lightx2v. File names, steps, guidance and shift of Qwen-Image's:
https://github.com/ModelTC/Qwen-Image-Lightning (README.md; generate_with_diffusers.py has the
scheduler: exponential shift of log(3) for every size, no terminal shift, `true_cfg_scale` 1; Apache
License 2.0). Qwen-Image-2.1's have four steps at the levels 1, 0.75, 0.5 and 0.25, which is no
shift at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

SHIFT: Final = 3.0
"""Qwen-Image's."""
GUIDANCE: Final = 1.0
BEST: Final = 0
"""In the place of steps: the most that there is a file for."""


@dataclass(frozen=True, slots=True)
class Series:
    """The files for one model: where they are published, and how their names begin."""

    repository: str
    prefix: str
    newest: str
    """The newest version, in bfloat16: half the size of float32, and what is computed in."""
    steps: tuple[int, ...] = (8, 4)
    """What there are files for, the better pictures first."""
    shift: float = SHIFT
    """The schedule's, for every size; 1: noise levels that are evenly spaced."""
    file_bytes: int = 850_000_000
    """What a file takes of the card, about."""

    def published(self, steps: int) -> str:
        """Return the name of the published file for this many steps."""
        return f"{self.prefix}-{steps}steps-{self.newest}-bf16.safetensors"


SERIES: Final[Mapping[str, Series]] = {
    "Qwen/Qwen-Image": Series("lightx2v/Qwen-Image-Lightning", "Qwen-Image-Lightning", "V2.0"),
    "Qwen/Qwen-Image-2512": Series(
        "lightx2v/Qwen-Image-2512-Lightning", "Qwen-Image-2512-Lightning", "V1.0"
    ),
    # The names of its page. No name of a series for 2509 could be verified, so it has none here.
    "Qwen/Qwen-Image-Edit-2511": Series(
        "lightx2v/Qwen-Image-Edit-2511-Lightning", "Qwen-Image-Edit-2511-Lightning", "V1.0"
    ),
    # Not of Turbo, which is another transformer. The name and the size of its file could not be
    # looked up where this was written: they are those of a file like Qwen-Image's, of rank 64.
    "Qwen/Qwen-Image-2.1": Series(
        "lightx2v/Qwen-Image-2.1-Lightning",
        "Qwen-Image-2.1-Lightning",
        "V1.0",
        steps=(4,),
        shift=1.0,
        file_bytes=340_000_000,
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
    shift: float = SHIFT


def is_lightning(file: str) -> bool:
    """Tell whether a file, by its name without `.safetensors`, is one of any series."""
    match = _NAME.fullmatch(file)
    return match is not None and match["prefix"] in {one.prefix for one in SERIES.values()}


def ranked(model: str, files: Iterable[str]) -> list[Lightning]:
    """Return a model's files, the best first: more steps, then the newer version, then bfloat16."""
    series = SERIES.get(model)
    if series is None:
        return []
    found: list[tuple[int, list[int], bool, str]] = []
    for file in files:
        match = _NAME.fullmatch(file)
        if match is not None and match["prefix"] == series.prefix:
            version = [int(part) for part in match["version"].split(".")]
            found.append((int(match["steps"]), version, file.endswith("-bf16"), file))
    ordered = sorted(found, reverse=True)
    return [Lightning(file, steps, series.shift) for steps, _version, _small, file in ordered]
