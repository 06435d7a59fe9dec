"""The words of a trial: a line for each part, the verdict, and what would be better."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from bot.engine.card_budget import Bound

_GIB: Final = 2**30
_GB: Final = 1e9
_OLD_TORCH: Final = re.compile(r"2\.9\.")
# What programs besides the engine need of main memory: a desktop, the bot, the system.
_OTHERS_MEMORY: Final = 3 * _GIB
Figures = Mapping[str, Any]
DECISIVE: Final = frozenset({"card", "plan"})
"""Parts whose failure is the answer: no card, or too little of it."""


def line_of(part: str, found: Figures) -> str | None:
    """Return a part's figures in words; None where nobody wants to read them."""
    return _LINES[part](found) if part in _LINES else None


def verdict(model: str, parts: Mapping[str, Figures], failed: Mapping[str, str]) -> str:
    """Return the answer to the question whether this card will do.

    `failed` says of each part that failed why.
    """
    times = parts.get("seconds")
    if times is None:
        part, why = next(iter(failed.items()), ("it", "unknown"))
        if part in DECISIVE:
            return why
        return f"Whether this machine draws with {model} could not be found out: {part}: {why}"
    text = f"This machine draws with {model}: about {_s(times['standard_s'])} for a picture of "
    text += f"{times['standard_steps']} steps"
    if "fast_s" in times:
        text += f", {_s(times['fast_s'])} for `fast` of {times['fast_steps']} steps"
    if lightning := _lightning(times):
        told = " and ".join(f"{_s(seconds)} ({steps} steps)" for steps, seconds in lightning)
        text += f", or with a Lightning file {told}"
    return f"{text}. Projected from blocks of random weights."


def better(model: str, parts: Mapping[str, Figures]) -> Iterator[str]:
    """Yield what would make it faster, or work at all, the most useful first."""
    card, plan = parts.get("card", {}), parts.get("plan", {})
    pinning, compiled = parts.get("pinning", {}), parts.get("compiling", {})
    steps, times = parts.get("steps", {}), parts.get("seconds", {})
    for _steps, seconds in _lightning(times)[:1]:
        yield f"`python -m bot download {model} --lightning`: `fast` in about {_s(seconds)}"
    if compiled.get("wanted") and not compiled["compiled"]:
        yield f"compiled blocks ({compiled['why_not']}): {_compiler()}"
    if compiled and not compiled["wanted"]:
        yield "IMAGE_COMPILE=true: an uncompiled step takes about 1.4 times as long"
    streams = steps.get("streamed_bytes_a_step", plan.get("streamed_bytes_a_step", 0))
    if streams and card.get("bound") == Bound.FREE and card["foreign_bytes"] > _GIB:
        held = card["foreign_bytes"] / _GIB
        yield f"close other programs that use the card: they and its driver hold {held:.1f} GiB"
    elif streams and card.get("bound") in {Bound.CEILING, Bound.SHARE}:
        yield f"a higher {card['bound']}, if the card is not needed for anything else"
    if steps and steps["room_for"] < steps["resident"]:
        yield (
            f"a lower IMAGE_VRAM_GB: the card had room for {steps['room_for']} of the "
            f"{steps['resident']} blocks that it seemed to have"
        )
    bus_s = steps.get("streamed_block_s", 0.0) * (plan.get("blocks", 0) - steps.get("resident", 0))
    if steps and bus_s > plan["blocks"] * steps["resident_block_s"]:
        yield "a faster slot for the card: a step waits for copies, not for arithmetic"
    if pinning.get("refused"):
        yield (
            "more memory for the machine, the container or WSL (memory= in .wslconfig): the driver "
            "refused to pin all that streams"
        )
    total, wanted = plan.get("main_memory_bytes"), _main_memory(plan)
    if pinning.get("lacks_main_memory") or (total and wanted + _OTHERS_MEMORY > total):
        yield f"more main memory: the engine alone holds {wanted / _GIB:.1f} GiB of it"
    if _OLD_TORCH.match(card.get("torch", "")):
        yield "another PyTorch: 2.9 is known for taking several times the memory of others"


def _card(found: Figures) -> str:
    capability = found["capability"]
    kind = f" (compute capability {capability})" if capability else ""
    return (
        f"{found['name']}{kind}, PyTorch {found['torch']}: "
        f"{found['free_bytes'] / _GIB:.1f} of {found['total_bytes'] / _GIB:.1f} GiB free, "
        f"the budget is {found['budget_bytes'] / _GIB:.1f} GiB (by {found['bound']})"
    )


def _plan(found: Figures) -> str:
    text = f"{found['resident']} of {found['blocks']} blocks stay on the card, "
    text += f"{found['streamed_bytes_a_step'] / _GB:.1f} GB stream at each step; main memory: "
    text += f"{found['pin_wanted_bytes'] / _GIB:.1f} GiB pinned, "
    text += f"{found['pageable_bytes'] / _GIB:.1f} GiB pageable"
    total = found["main_memory_bytes"]
    return text if total is None else f"{text}, of {total / _GIB:.1f} GiB"


def _pinning(found: Figures) -> str:
    text = f"{found['pinned_bytes'] / _GIB:.1f} of {found['wanted_bytes'] / _GIB:.1f} GiB pinned"
    if found["refused"]:
        text += ", the driver refuses more"
    if found["lacks_main_memory"]:
        text += ", there is not more main memory at present"
    return (
        f"{text}; copies to the card: {found['pinned_bytes_a_second'] / _GB:.1f} GB/s from pinned, "
        f"{found['pageable_bytes_a_second'] / _GB:.1f} GB/s from pageable memory"
    )


def _compiling(found: Figures) -> str:
    if found["compiled"]:
        return f"blocks are compiled, in {found['seconds']:.0f} s"
    return f"blocks are not compiled: {found['why_not']}"


def _steps(found: Figures) -> str:
    text = f"a block takes {1000 * found['resident_block_s']:.1f} ms where it stays and "
    text += f"{1000 * found['streamed_block_s']:.1f} ms where it streams; room for "
    text += f"{found['room_for']} of {found['resident']} resident blocks"
    peak = found["peak_reserved_bytes"]
    return f"{text}, peak {peak / _GIB:.1f} GiB" if peak else text


def _seconds(found: Figures) -> str:
    text = f"a step {found['step_s']:.2f} s, once a picture {found['once_s']:.1f} s (projected)"
    alone = found.get("lightning_step_s")
    return f"{text}; with a Lightning file a step {alone:.2f} s" if alone else text


_LINES: Final[dict[str, Callable[[Figures], str]]] = {
    "card": _card,
    "plan": _plan,
    "blocks": lambda found: (
        f"{found['loaded']} of random weights, in {found['seconds']:.1f} s; {found['precision']}"
    ),
    "pinning": _pinning,
    "compiling": _compiling,
    "steps": _steps,
    "decoding": lambda found: (
        f"a picture in {found['seconds']:.2f} s{', in tiles' if found['tiled'] else ''}"
    ),
    "seconds": _seconds,
}


def _lightning(times: Figures) -> list[tuple[int, float]]:
    """Return steps and seconds with each Lightning file, the better pictures first."""
    return [(n, times[f"lightning_{n}_s"]) for n in (8, 4) if f"lightning_{n}_s" in times]


def _main_memory(plan: Figures) -> int:
    return plan.get("pin_wanted_bytes", 0) + plan.get("pageable_bytes", 0)


def _compiler() -> str:
    if sys.platform == "win32":
        return f'"{sys.executable}" -m pip install triton-windows'
    return "sudo apt install gcc python3-dev, or a newer PyTorch and driver where those are there"


def _s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - digits
