"""What the tiny model edits and writes: `python -m bot bench tiny --edits`, `--language`.

The engine's child edits and writes as it does for the bot.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from bot.catalogue.models import find_model
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Finished, WriteRequest, Written
from bot.lab.tiny.evaluate import answers, changes
from bot.lab.tiny.evaluate.answers import Question
from bot.lab.tiny.evaluate.changes import Case
from bot.lab.tiny.evaluate.score import percent
from bot.lab.tiny.train.scenes.sheet import contact_sheet

_MODEL: Final = "tiny-edit"
_SIZE: Final = 256
_SHEET: Final = 64
_REGIONS: Final = 10
"""Cases of one picture that are edited within a region besides."""


async def bench_edits(options: argparse.Namespace) -> dict[str, Any]:
    """Edit and judge; print the table to standard error and return the figures."""
    cases = changes.held_out_changes(options.count)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        engine = EngineProcess(_MODEL, options=EngineOptions(Path("models"), compile=False))
        pictures: list[tuple[Case, Image.Image]] = []
        seconds: list[float] = []
        outside = 0
        try:
            for case in cases:
                image, took = await _edited(engine, case, folder, options)
                pictures.append((case, image))
                seconds.append(took)
                if sys.stderr.isatty():
                    sys.stderr.write(f"\r{len(pictures)} of {len(cases)} ")
            some = [case for case in cases if len(case.change.sources) == 1][:_REGIONS]
            for case in some:
                outside += await _changed_outside(engine, case, folder, options)
        finally:
            await engine.close()
    found = changes.tally_changes(pictures)
    own = changes.tally_changes((case, case.change.pictures()[1]) for case in cases)
    text = _table(found.shares, own.shares)
    sys.stderr.write(f"{text}\n")
    if options.sheet:
        shown = pictures[:_SHEET]
        contact_sheet(
            [_beside(case, image) for case, image in shown],
            [case.instruction for case, _ in shown],
            columns=4,
            size=320,
        ).save(options.sheet)
    figures = {
        "instructions": len(cases),
        "percent": {kind: round(percent(share), 1) for kind, share in found.shares.items()},
        "judge_percent": {kind: round(percent(share), 1) for kind, share in own.shares.items()},
        "counts": found.shares,
        "untouched_db": found.untouched_db,
        "reached": {
            kind: percent(share) >= bar
            for kind, share in found.shares.items()
            if (bar := changes.BARS[kind]) is not None
        },
        "pixels_changed_outside_of_regions": outside,
        "seconds_an_edit": round(statistics.median(seconds[1:] or seconds), 3),
    }
    if options.json is not None:
        whole = figures | {"failed": found.failed}
        options.json.write_text(json.dumps(whole, ensure_ascii=False, indent=1), "utf-8")
    return figures


async def _edited(
    engine: EngineProcess,
    case: Case,
    folder: Path,
    options: argparse.Namespace,
    mask: Path | None = None,
) -> tuple[Image.Image, float]:
    """Return the edited picture (RGB) and the seconds that it took."""
    quality = find_model(_MODEL).qualities[options.quality]
    references: list[Path] = []
    for number, picture in enumerate(case.change.pictures()[0]):
        references.append(folder / f"{case.number}-{number + 1}.png")
        picture.save(references[-1])
    request = EngineRequest(
        job_id=str(case.number),
        prompt=case.instruction,
        negative_prompt="",
        width=_SIZE,
        height=_SIZE,
        steps=options.steps or quality.steps,
        guidance=options.guidance or quality.guidance,
        seeds=(case.seed,),
        output_dir=folder / "one",
        texts=({},),
        references=tuple(references),
        input_image=None if mask is None else references[0],
        mask=mask,
    )
    request.output_dir.mkdir(parents=True, exist_ok=True)
    took = 0.0
    async for event in engine.generate(request):
        if isinstance(event, Finished):
            took = event.timings["total"]
    name = folder / f"{case.number}{'' if mask is None else '-region'}.png"
    (folder / "one/0.png").replace(name)
    with Image.open(name) as image:
        return image.convert("RGB"), took


async def _changed_outside(
    engine: EngineProcess, case: Case, folder: Path, options: argparse.Namespace
) -> int:
    """Edit within the middle of a picture; return how many pixels outside of it changed."""
    region = Image.new("L", (_SIZE, _SIZE))
    region.paste(255, (64, 64, 192, 192))
    path = folder / "region.png"
    region.save(path)
    image, _ = await _edited(engine, case, folder, options, path)
    before = np.asarray(case.change.pictures()[0][0])
    different = (np.asarray(image) != before).any(-1)
    return int((different & (np.asarray(region) == 0)).sum())


def _beside(case: Case, image: Image.Image) -> Image.Image:
    sources = case.change.pictures()[0]
    whole = Image.new("RGB", (_SIZE * (len(sources) + 1), _SIZE))
    for place, one in enumerate([*sources, image]):
        whole.paste(one, (place * _SIZE, 0))
    return whole


def _table(shares: dict[str, tuple[int, int]], own: dict[str, tuple[int, int]]) -> str:
    lines = ["| kind | right | of | % | judge on renderer | bar |", "|---|---|---|---|---|---|"]
    for kind, (right, asked) in shares.items():
        bar, value = changes.BARS[kind], percent((right, asked))
        said = "" if bar is None else f"{bar:.0f} {'reached' if value >= bar else 'missed'}"
        lines.append(
            f"| {kind} | {right} | {asked} | {value:.1f} | {percent(own[kind]):.1f} | {said} |"
        )
    return "\n".join(lines)


async def bench_language(options: argparse.Namespace) -> dict[str, Any]:
    """Describe held-out scenes and expand held-out prompts; return the figures."""
    engine = EngineProcess(_MODEL, options=EngineOptions(Path("models"), compile=False))
    figures: dict[str, Any] = {}
    wrong: list[dict[str, str]] = []
    try:
        for task, questions in (
            ("describe", answers.held_out_scenes(options.count)),
            ("expand", answers.held_out_shorts(options.count)),
        ):
            right, seconds = 0, list[float]()
            for one in questions:
                said, took = await _written(engine, one)
                seconds.append(took)
                verdict = answers.judge_answer(one, said)
                right += verdict
                if not verdict:
                    wrong.append({"asked": one.user, "plan": str(one.plan), "answer": said})
            share = percent((right, len(questions)))
            figures[task] = {"right": right, "of": len(questions), "percent": round(share, 1)}
            figures[task]["reached"] = share >= answers.BARS[task]
            figures[task]["seconds"] = round(statistics.median(seconds), 3)
    finally:
        await engine.close()
    if options.json is not None:
        whole = figures | {"wrong": wrong}
        options.json.write_text(json.dumps(whole, ensure_ascii=False, indent=1), "utf-8")
    return figures


async def _written(engine: EngineProcess, question: Question) -> tuple[str, float]:
    """Return the likeliest answer and the seconds that it took."""
    said, took = "", 0.0
    with tempfile.TemporaryDirectory() as folder:
        seen: tuple[Path, ...] = ()
        if question.picture is not None:
            seen = (Path(folder) / "seen.png",)
            question.picture.save(seen[0])
        request = WriteRequest("language", "", question.user, seen, max_tokens=120)
        async for event in engine.generate(request):
            if isinstance(event, Written):
                said += event.text
            elif isinstance(event, Finished):
                took = event.timings["total"]
    return said, took
