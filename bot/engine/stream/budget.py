"""The memory plan: how many blocks stay on the GPU, for a budget in bytes and a picture to draw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from bot.engine.child.references import SizesOf
from bot.engine.stream.layout import Geometry
from bot.engine.stream.too_large import too_large

MIB: Final = 2**20
GIB: Final = 2**30
_LORA_PEAK: Final = 8.0
# Workspaces of the matrix libraries, and what the allocator loses to rounding.
_SLACK: Final = 160 * MIB
_SLACK_SHARE: Final = 0.01
# Up to here two branches in one visit save launches and small products; past it they only
# take memory.
_JOINT_TOKENS: Final = 12_000


@dataclass(frozen=True, slots=True)
class Peak:
    """Live tensors of a block visit at their peak, in units of tokens x dim x element size.

    `prefix`: references come before the picture and are read once, one by one; no step has them.
    """

    eager: float
    compiled: float
    prefix: bool = False


DOUBLE_PEAK: Final = Peak(12.5, 9.0)
"""Qwen-Image's. Measured on full-size blocks: 11.4 and 7.5; the benchmark prints what it sees
beside what was planned."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a generation needs room for. `text_tokens` has one number per guidance branch.

    `references` are the sizes (width, height) in pixels of pictures that each one is drawn after.
    """

    width: int
    height: int
    pictures: int = 1
    text_tokens: tuple[int, ...] = (128, 16)
    references: tuple[tuple[int, int], ...] = ()

    @property
    def target_tokens(self) -> int:
        """Tokens of one picture itself: patches of 16 x 16 pixels."""
        return (self.width // 16) * (self.height // 16)

    @property
    def reference_tokens(self) -> int:
        """Tokens of all references of one picture."""
        return sum((width // 16) * (height // 16) for width, height in self.references)

    @property
    def prefix_tokens(self) -> int:
        """Tokens that come before the picture in all branches, where references do."""
        return len(self.text_tokens) * self.reference_tokens + sum(self.text_tokens)

    @property
    def image_tokens(self) -> int:
        """Tokens of one picture that are no text: its own and its references'."""
        return self.target_tokens + self.reference_tokens

    @property
    def tokens(self) -> int:
        """Tokens of one picture, all branches."""
        return len(self.text_tokens) * self.image_tokens + sum(self.text_tokens)

    @property
    def joint(self) -> bool:
        """Whether a picture's branches go through a block together."""
        return self.tokens <= _JOINT_TOKENS


@dataclass(frozen=True, slots=True)
class Fixed:
    """What is on the GPU whatever is drawn, in bytes."""

    block: int
    slot: int
    scratch: int
    small: int
    hole: int = 0
    """What an evicted block leaves behind: the allocator frees whole pages only."""
    others: int = 0
    """Other networks' weights that stay beside the transformer."""
    others_working: int = 0
    """What the other networks need while the transformer rests."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which blocks stay (`resident`), and what the rest of the budget is for, in bytes."""

    resident: frozenset[int]
    working: int
    overhead: int


def activation_bytes(
    work: Work,
    geometry: Geometry,
    element: int,
    *,
    compiled: bool,
    lora: bool = False,
    peak: Peak = DOUBLE_PEAK,
) -> int:
    """Return the peak of activations of a step, in bytes.

    With a prefix also of reading it, whose tokens wait meanwhile.
    """
    joint, reading = work.joint, 0
    pixels = work.pictures * work.width * work.height
    pixels += sum(width * height for width, height in work.references)
    if peak.prefix and work.references:
        largest = max((width // 16) * (height // 16) for width, height in work.references)
        reading = work.prefix_tokens * geometry.dim * element
        work = replace(work, references=())
    else:
        largest = 0
    tokens = work.tokens if joint else work.image_tokens + max(work.text_tokens)
    more = _LORA_PEAK if lora else 0.0
    live = (peak.compiled if compiled else peak.eager) + more
    # What is read once is not compiled.
    visit = geometry.dim * element * max(tokens * live, largest * (peak.eager + more))
    kept = work.tokens * work.pictures * geometry.dim * element
    return int(visit) + 2 * kept + reading + 8 * pixels


def slack(budget: int) -> int:
    """Return what of a budget is left to matrix libraries and to rounding, in bytes."""
    return _SLACK + int(_SLACK_SHARE * budget)


def plan(
    work: Work,
    geometry: Geometry,
    fixed: Fixed,
    budget: int | None,
    element: int,
    *,
    compiled: bool,
    lora_bytes: int = 0,
    most: int = 0,
    peak: Peak = DOUBLE_PEAK,
    kept: Callable[[Work], int] = lambda _: 0,
    sizes: SizesOf | None = None,
) -> Plan:
    """Share the budget out; None means that everything stays.

    `kept` tells what a generation holds beside its activations while its steps run. `most` is how
    many blocks were ever resident together: each one evicted since left a hole. `sizes` are for
    `too_large`.

    Raises `EngineError` (`OUT_OF_MEMORY`) when not even two blocks at a time have room.
    """
    activations = activation_bytes(
        work, geometry, element, compiled=compiled, lora=lora_bytes > 0, peak=peak
    )
    working = max(activations, fixed.others_working)
    if budget is None:
        return Plan(frozenset(range(geometry.layers)), working, 0)
    overhead = fixed.small + fixed.scratch + 2 * fixed.slot + fixed.others + lora_bytes
    always = overhead + slack(budget)
    overhead = always + kept(work)
    room = budget - working - overhead
    if room < 0:

        def fits(other: Work) -> bool:
            needed = activation_bytes(
                other, geometry, element, compiled=compiled, lora=lora_bytes > 0, peak=peak
            )
            return max(needed, fixed.others_working) + always + kept(other) <= budget

        raise too_large(work, working, overhead, budget, fits, sizes)
    count = min(geometry.layers, room // fixed.block)
    if count < most:
        count = min(count, max(0, room - most * fixed.hole) // (fixed.block - fixed.hole))
    return Plan(spread(count, geometry.layers), working, overhead)


def spread(resident: int, layers: int) -> frozenset[int]:
    """Choose `resident` of `layers` blocks so that the others lie evenly among them."""
    streamed = layers - resident
    chosen = {i for i in range(layers) if (i + 1) * streamed // layers == i * streamed // layers}
    return frozenset(chosen)
