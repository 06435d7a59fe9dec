"""Pictures by the tiny model of 500 prompts it never saw in training: `python -m bot bench tiny`.

The engine's child draws as it does for the bot. Pictures made elsewhere (a folder of NUMBER.png,
and the prompts that `--write-prompts` wrote) are judged without it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from PIL import Image

from bot.catalogue.models import BALANCED, find_model
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Finished, Loaded
from bot.errors import BotError
from bot.lab.tiny.evaluate import prompts as held_out
from bot.lab.tiny.evaluate import score
from bot.lab.tiny.evaluate.prompts import Prompt
from bot.lab.tiny.train.scenes.sheet import contact_sheet

_SIZE: Final = 256
_SHEET: Final = 64
_OTHERS: Final = ("fp8-fast", "int8", "int8-fast")


@dataclass
class Drawn:
    """What an engine drew: where it lies, and seconds."""

    folder: Path
    prompts: list[Prompt]
    loaded: Loaded | None = None
    seconds: list[float] = field(default_factory=list[float])

    def pictures(self) -> list[tuple[Prompt, Image.Image]]:
        """Return the prompts with their pictures, RGB."""
        return [(prompt, _opened(self.folder / f"{prompt.number}.png")) for prompt in self.prompts]


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except FileNotFoundError:
        raise BotError(f"There is no picture {path.name} in {path.parent}.") from None


async def _draw(
    options: argparse.Namespace,
    prompts: list[Prompt],
    folder: Path,
    precision: str,
    *,
    whole: bool = False,
) -> Drawn:
    """Draw in `folder`; with `whole` every step is computed, whatever the threshold of reuse."""
    quality = find_model("tiny").qualities[options.quality]
    threshold = quality.reuse if options.reuse is None else options.reuse
    engine = EngineProcess(
        "tiny", options=EngineOptions(Path("models"), precision=precision, compile=False)
    )
    drawn = Drawn(folder, prompts)
    try:
        for prompt in prompts:
            request = EngineRequest(
                job_id=str(prompt.number),
                prompt=prompt.caption,
                negative_prompt="",
                width=_SIZE,
                height=_SIZE,
                steps=options.steps or quality.steps,
                guidance=options.guidance or quality.guidance,
                seeds=(prompt.seed,),
                output_dir=folder / "one",
                texts=({},),
                cfg_norm=options.cfg_norm,
                reuse=0.0 if whole else threshold,
            )
            request.output_dir.mkdir(parents=True, exist_ok=True)
            async for event in engine.generate(request):
                if isinstance(event, Loaded):
                    drawn.loaded = event
                elif isinstance(event, Finished):
                    drawn.seconds.append(event.timings["total"])
            (folder / "one/0.png").replace(folder / f"{prompt.number}.png")
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{precision}: {len(drawn.seconds)} of {len(prompts)} ")
    finally:
        await engine.close()
    return drawn


def _timings(drawn: Drawn) -> dict[str, Any]:
    if drawn.loaded is None:
        return {}
    later = drawn.seconds[1:] or drawn.seconds  # the first picture warms up
    return {
        "seconds_an_image": round(statistics.median(later), 3),
        "first_image_s": round(drawn.seconds[0], 3),
        "load_s": round(drawn.loaded.seconds, 3),
        "load_beyond_imports_s": round(drawn.loaded.seconds - drawn.loaded.imports_s, 3),
        "device": drawn.loaded.device,
    }


def _likeness(first: Drawn, second: Drawn) -> dict[str, float]:
    pairs = zip(first.pictures(), second.pictures(), strict=False)
    return score.psnr_summary([score.psnr(a, b) for (_, a), (_, b) in pairs])


def _report(options: argparse.Namespace, drawn: Drawn) -> tuple[str, dict[str, Any]]:
    """Judge; return the table and the figures, and draw the contact sheet that was asked for."""
    pictures = drawn.pictures()
    shares, failed = score.tally(pictures)
    numbers = {prompt.number for prompt in drawn.prompts}
    own, _ = score.tally(one for one in held_out.rendered() if one[0].number in numbers)
    if options.sheet:
        shown = pictures[:_SHEET]
        contact_sheet(
            [picture for _, picture in shown], [prompt.caption for prompt, _ in shown]
        ).save(options.sheet)
    figures: dict[str, Any] = {
        "prompts": len(pictures),
        "percent": {name: round(score.percent(share), 1) for name, share in shares.items()},
        "judge_percent": {name: round(score.percent(share), 1) for name, share in own.items()},
        "counts": shares,
        "reached": {name: score.reached(name, share, own[name]) for name, share in shares.items()},
        "failed": {
            prompt.caption: bad for (prompt, _), bad in zip(pictures, failed, strict=True) if bad
        },
    }
    return score.table(shares, own), figures


async def bench_tiny(options: argparse.Namespace) -> dict[str, Any]:
    """Draw and judge; print the table to standard error and return the figures."""
    prompts = held_out.held_out_prompts(options.count)
    if options.write_prompts:
        held_out.write_prompts(options.write_prompts, prompts)
        return {"prompts": len(prompts), "written": str(options.write_prompts)}
    with tempfile.TemporaryDirectory() as temporary:
        if options.pictures:
            if options.prompts:
                prompts = held_out.read_prompts(options.prompts)
            text, figures = _report(options, Drawn(options.pictures, prompts))
        else:
            folder = options.keep or Path(temporary)
            drawn = await _draw(options, prompts, folder / "fp8", "fp8")
            text, figures = _report(options, drawn)
            figures |= _timings(drawn)
            if options.psnr:
                some = prompts[: options.psnr]
                plain = await _draw(options, some, folder / "plain", "bf16")
                figures["fp8_psnr_db"] = _likeness(plain, drawn)
                for precision in _OTHERS:
                    other = await _draw(options, some, folder / precision, precision)
                    name = precision.replace("-", "_")
                    figures[f"{name}_psnr_db"] = _likeness(plain, other)
                if options.reuse or options.quality == BALANCED:
                    whole = await _draw(options, some, folder / "whole", "fp8", whole=True)
                    figures["reuse_psnr_db"] = _likeness(whole, drawn)
                    figures["whole_seconds_an_image"] = _timings(whole)["seconds_an_image"]
    sys.stderr.write(f"{text}\n")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, ensure_ascii=False, indent=1), "utf-8")
    return {name: value for name, value in figures.items() if name != "failed"}
