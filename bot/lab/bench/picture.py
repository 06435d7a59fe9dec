"""Whole pictures through the engine's child, from a model's files: `python -m bot bench picture`.

Each way to run the engine is started, loads, and draws; where the seconds go and how much memory
it took is printed as it comes. Without the model's files, `--random FOLDER` writes random ones.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from PIL import Image

from bot.catalogue.lightning import GUIDANCE, SERIES, SHIFT
from bot.catalogue.models import find_model
from bot.engine.files.find import MARKER
from bot.engine.options import EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Finished, Loaded, Loading, Step
from bot.errors import BotError
from bot.lab.bench.ballast import Ballast
from bot.lab.bench.switches import measure, second_files
from bot.lab.step.unpinned import PIPELINE as UNPINNED

_PROMPT: Final = "a lighthouse at night, the sea below, and a sign that says HELLO"
RANDOM: Final = """
import sys, torch
from pathlib import Path
from bot.lab.step.random_files import write
layers = int(sys.argv[3]) or None
say = lambda text: print(text, flush=True)
write(Path(sys.argv[1]), torch.device(sys.argv[2]), say, layers=layers, family=sys.argv[4])
"""
RANDOM_LORA: Final = """
import sys, torch
from pathlib import Path
from bot.lab.step.random_files import write_lora
write_lora(Path(sys.argv[1]), torch.device(sys.argv[2]))
"""
_SECOND_STEP: Final = 2
_NOISE: Final = 80
PATIENT: Final = SilenceLimits(load=1800, encode=1800, denoise=1800, decode=1800)


@dataclass(frozen=True, slots=True)
class Row:
    """One way to run the engine, and what it draws: (steps, pictures) of each job."""

    name: str
    changes: dict[str, Any]
    jobs: tuple[tuple[int, int], ...]
    lightning: tuple[bool, ...] = ()
    """Which jobs have the LoRA of `--lora`, guidance 1 and Lightning's noise levels."""
    before: dict[int, float | None] = field(default_factory=dict[int, float | None])
    """Before which jobs another program leaves so many GiB free, or (None) goes."""
    during: dict[int, float] = field(default_factory=dict[int, float])
    """During which jobs another program comes, and how many GiB it leaves free."""
    edits: bool = False
    """Whether its pictures are drawn after those of `--references`."""


def rows(steps: int) -> dict[str, Row]:
    """Return all rows by name. The second of two equal jobs shows the speed of a warm engine."""
    twice = ((steps, 1), (steps, 1))

    def at(vram_gb: float | None, **changes: Any) -> dict[str, Any]:
        return {"precision": "fp8", "vram_gb": vram_gb, **changes}

    found = [
        Row("fp8", at(14), (*twice, (steps, 4))),
        Row("fp8-auto", at(None), twice),
        Row("fp8-24", at(24), twice),
        Row("fp8-8", at(8), twice),
        Row("fp8-4", at(4), twice),
        Row("fp8-fast", at(14, precision="fp8-fast"), (*twice, (steps, 4))),
        Row("fp8-fast-8", at(8, precision="fp8-fast"), twice),
        Row("fp8-fast-4", at(4, precision="fp8-fast"), twice),
        *(
            Row(name + size, at(gib, precision=name), twice)
            for name in ("int8", "int8-fast")
            for size, gib in (("", 14), ("-8", 8), ("-4", 4))
        ),
        Row("fp8-eager", at(14, compile=False), twice),
        Row("unpinned", at(14, pipeline=UNPINNED), twice),
        Row("unpinned-8", at(8, pipeline=UNPINNED), twice),
        # Another program is there before the engine and goes, comes and goes, comes during a job
        # and goes.
        Row(
            "ballast",
            at(None),
            ((steps, 1),) * 9,
            before={0: 6.0, 1: None, 3: 0.2, 4: None, 6: None, 7: None},
            during={6: 0.2},
        ),
        # The first picture compiles the blocks with the LoRA.
        Row("lightning", at(14), ((8, 1),) * 3, (True,) * 3),
        Row("switching", at(14), ((20, 1), (8, 1)) * 3, (False, True) * 3),
        # Each edit has other pictures of noise, so all of them are encoded anew.
        Row("edit", at(14), twice, edits=True),
        Row("edit-8", at(8), twice, edits=True),
        Row("edit-int8-fast", at(14, precision="int8-fast"), twice, edits=True),
        Row("edit-lightning", at(14), ((4, 1),) * 3, (True,) * 3, edits=True),
        # DiffSynth's own offloading takes a quarter of a minute a step: two are enough.
        Row("stock", at(14, offload="stock"), ((2, 1),)),
    ]
    return {row.name: row for row in found}


def run(options: argparse.Namespace) -> int:
    """Measure and print; return how many rows failed."""
    write_random_files(options)
    known = rows(options.steps)
    if not options.references:
        known = {name: row for name, row in known.items() if not row.edits}
    elif not find_model(options.model).references:
        raise BotError(f"{options.model} edits no pictures; leave out --references.")
    if options.lora is None:
        known = {name: row for name, row in known.items() if not any(row.lightning)}
    elif options.random:
        command = [sys.executable, "-c", RANDOM_LORA, str(options.lora), options.device]
        subprocess.run(command, check=True)  # noqa: S603 - as above
    wanted = options.rows.split(",") if options.rows else list(known)
    unknown = sorted(set(wanted) - set(known) - {"load", "switch"})
    if unknown:
        names = ", ".join(known)
        raise BotError(f"There is no row {unknown[0]}; there are {names}, load and switch.")
    figures: dict[str, Any] = {}
    failed = 0
    for name in wanted:
        try:
            if name == "load":
                figures[name] = _load(options.folder, options.model)
            elif name == "switch":
                figures[name] = switches(options)
            else:
                figures[name] = asyncio.run(_row(known[name], options))
        except (BotError, subprocess.SubprocessError) as error:
            failed += 1
            figures[name] = {"failed": str(error)}
        _say(f"{name}: {json.dumps(figures[name])}")
        if options.json is not None:
            options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    _say(table(figures))
    return failed


def write_random_files(options: argparse.Namespace) -> None:
    """Write files of a model, if `options` ask for them, in a process that ends with its memory."""
    if options.random:
        write_model(options.folder, options.model, options)


def write_model(folder: Path, model: str, options: argparse.Namespace) -> None:
    """Write random files of `model` to `folder`, unless they are there."""
    values = (str(folder), options.device, str(options.layers or 0), find_model(model).family)
    command = [sys.executable, "-c", RANDOM, *values]
    subprocess.run(command, check=True)  # noqa: S603 - this very program
    (folder / MARKER).write_text(f"{model}\n", encoding="utf-8")


async def draw_job(
    engine: EngineProcess, output: Path, options: argparse.Namespace, figures: dict[str, Any]
) -> dict[str, Any]:
    """Draw a picture into `output`; return its figures, and add those of loading to `figures`."""
    request = picture_request(output, output.name, options.steps, 1, options)
    return await _job(engine, request, figures, None)


def _load(folder: Path, model: str) -> dict[str, Any]:
    module = "bot.lab.step.load"
    command = [sys.executable, "-m", module, str(folder), "--model", model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def switches(options: argparse.Namespace) -> dict[str, Any]:
    """Measure switches between `options.model` and `options.switch_to`."""
    models = options.model, options.switch_to
    if options.random:
        second_files(options.folder, models, partial(write_model, options=options))
    settings = EngineOptions(options.folder, vram_gb=14, models=models)
    with tempfile.TemporaryDirectory() as folder:
        request = picture_request(Path(folder), "switch", options.steps, 1, options)
        return asyncio.run(measure(models, settings, request, options.device, _say))


async def _row(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    settings = EngineOptions(options.folder, **row.changes)
    if any(row.lightning):
        settings = replace(settings, lora_path=options.lora.parent)
    engine = EngineProcess(options.model, options=settings, limits=PATIENT)
    figures: dict[str, Any] = {"jobs": []}
    holder = contextlib.ExitStack()
    folder = holder.enter_context(tempfile.TemporaryDirectory())
    try:
        async with Ballast() as ballast:
            for number, (steps, pictures) in enumerate(row.jobs):
                request = picture_request(Path(folder), f"job{number}", steps, pictures, options)
                if row.edits:
                    request = replace(
                        request, references=noise_pictures(Path(folder), options.references)
                    )
                if number < len(row.lightning) and row.lightning[number]:
                    loras = ((options.lora.stem, 1.0),)
                    series = SERIES.get(options.model)
                    shift = SHIFT if series is None else series.shift
                    request = replace(request, guidance=GUIDANCE, shift=shift, loras=loras)
                if number in row.before:
                    await ballast.leave(row.before[number])
                came = partial(ballast.leave, row.during.get(number))
                job = await _job(engine, request, figures, came if number in row.during else None)
                job["host_gib"] = _host_gib(engine.pid)
                figures["jobs"].append(job)
                _say(f"    {row.name} {json.dumps(job)}")
    finally:
        await engine.close()
        holder.close()
    return figures


def picture_request(
    folder: Path, name: str, steps: int, pictures: int, options: argparse.Namespace
) -> EngineRequest:
    """Return a request of `pictures` in the size and model of `options`, into `folder`."""
    width, height = (int(part) for part in options.size.split("x"))
    guidance = find_model(options.model).qualities["standard"].guidance
    return EngineRequest(
        name, _PROMPT, "", width, height, steps, guidance, tuple(range(pictures)), folder,
        tuple({"parameters": name} for _ in range(pictures)),
    )  # fmt: skip


def noise_pictures(folder: Path, sizes: str) -> tuple[Path, ...]:
    """Return pictures of noise in `sizes` (WIDTHxHEIGHT, with commas), in files below `folder`."""
    files: list[Path] = []
    for number, size in enumerate(sizes.split(",")):
        width, height = (int(part) for part in size.split("x"))
        files.append(folder / f"reference-{number}.png")
        Image.effect_noise((width, height), _NOISE).convert("RGB").save(files[-1])
    return tuple(files)


async def _job(
    engine: EngineProcess,
    request: EngineRequest,
    figures: dict[str, Any],
    midway: Callable[[], Awaitable[None]] | None,
) -> dict[str, Any]:
    job: dict[str, Any] = {"steps": request.steps, "pictures": len(request.seeds)}
    stages: dict[str, float] = {}
    marks: list[float] = []
    last, since = "", time.perf_counter()
    async for event in engine.generate(request):
        now = time.perf_counter()
        match event:
            case Loading(stage):
                if stage != last:
                    stages[last] = stages.get(last, 0.0) + now - since
                    last, since = stage, now
            case Loaded():
                stages[last] = stages.get(last, 0.0) + now - since
                stages.pop("", None)
                figures["load_s"] = round(event.seconds, 1)
                figures["imports_s"] = round(event.imports_s, 1)
                figures["load_stages_s"] = {key: round(value, 1) for key, value in stages.items()}
            case Step(index):
                marks.append(now)
                if midway is not None and index == _SECOND_STEP:
                    await midway()
            case Finished():
                timings = {key: round(value, 2) for key, value in event.timings.items()}
                job |= {
                    "seconds": timings,
                    "peak_gpu_gib": round((event.peak_gpu_bytes or 0) / 2**30, 2),
                }
            case _:
                pass
    gaps = [after - before for before, after in itertools.pairwise(marks)]
    job["step_s"] = round(statistics.median(gaps), 3) if gaps else None
    return job


def _host_gib(pid: int | None) -> dict[str, float]:
    """Return the child's memory by /proc, in GiB; empty where there is none."""
    status = Path(f"/proc/{pid}/status")
    if not status.is_file():
        return {}
    found = re.findall(r"^(VmHWM|RssAnon|RssShmem):\s+(\d+) kB", status.read_text(), re.MULTILINE)
    return {name: round(int(kib) / 2**20, 2) for name, kib in found}


def table(figures: dict[str, Any]) -> str:
    """Return one line a job: seconds in all and by stage."""
    stages = ("total", "encode", "denoise", "decode", "save")
    lines = [f"{'row':12s} {'job':>8s} {'s/step':>7s} " + " ".join(f"{s:>8s}" for s in stages)]
    for name, row in figures.items():
        for job in row.get("jobs", ()):
            what = f"{job['pictures']}x{job['steps']}"
            seconds: Sequence[float] = [job["seconds"].get(stage, 0.0) for stage in stages]
            lines.append(
                f"{name:12s} {what:>8s} {job['step_s'] or 0:7.3f} "
                + " ".join(f"{value:8.2f}" for value in seconds)
            )
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
