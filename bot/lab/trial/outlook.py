"""The trial's last part: what a picture takes, projected from the blocks that were timed."""

from __future__ import annotations

from bot.errors import EngineError
from bot.lab.trial.bench import Bench, Figures
from bot.lab.trial.projection import LORA_COST, Pace, picture_seconds, step_seconds


def seconds(bench: Bench) -> Figures:
    """Project a step's and a picture's seconds; see `projection`."""
    whole, share, wish = bench.whole, bench.share, bench.wish
    rate = bench.pageable_bytes_s
    waits = whole.text_bytes + whole.modulation_bytes
    once_s = bench.decode_s + (waits / rate if rate else 0.0)
    if whole.reads_prompts and bench.fetch_bytes_s:
        # Of a prompt's few tokens the arithmetic is nothing beside the copies of blocks.
        once_s += share.streamed_bytes / bench.fetch_bytes_s
    step_s = step_seconds(share.blocks, share.streamed, bench.pace)
    found: Figures = {
        "step_s": step_s,
        "once_s": once_s,
        "standard_steps": wish.standard.steps,
        "standard_s": picture_seconds(wish.standard.steps, step_s, once_s),
    }
    if wish.fast is not None:
        found["fast_steps"] = wish.fast.steps
        found["fast_s"] = picture_seconds(wish.fast.steps, step_s, once_s)
    if not wish.lightning:
        return found
    execution = bench.dit.execution
    try:
        with_file = whole.share(
            bench.budget.bytes,
            compiled=execution.compiled,
            matmul=execution.matmul,
            lora_bytes=wish.lightning_bytes,
        )
    except EngineError:  # no room for the file; without it there is
        return found
    copy_s = whole.block_bytes / bench.fetch_bytes_s if bench.fetch_bytes_s else 0.0
    computed_s = LORA_COST * bench.single.resident_s
    streamed_s = max(computed_s, copy_s, bench.single.streamed_s)
    pace = Pace(computed_s, streamed_s, bench.single.around_s)
    step_s = step_seconds(with_file.blocks, with_file.streamed, pace)
    found["lightning_step_s"] = step_s
    for count in wish.lightning:
        found[f"lightning_{count}_s"] = picture_seconds(count, step_s, once_s)
    return found
