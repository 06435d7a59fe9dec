"""Switches between two models: their seconds, beside the bare work on the same bytes.

`bench picture FOLDER --rows switch` draws by turns with both, twice: models that are left keep what
there is room for, and then nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bot.catalogue.models import find_model
from bot.engine.files.cache_index import CacheIndex
from bot.engine.files.find import cache_folder, home
from bot.engine.files.stages import CONVERTING, LOADING
from bot.engine.options import EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Finished, Loading

PATIENT: Final = SilenceLimits(load=1800, switch=1800, encode=1800, denoise=1800, decode=1800)
_TURNS: Final = 5
_BARE: Final = """
import json, sys
from pathlib import Path
from bot.lab.step.load import bare, copied
device = sys.argv[2]
read = bare(Path(sys.argv[1]), 0, device)["read_s"]
print(json.dumps({"read_s": read, "copy_s": copied(Path(sys.argv[1]).stat().st_size, device)}))
"""


async def measure(
    models: tuple[str, str],
    options: EngineOptions,
    request: EngineRequest,
    device: str,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Draw `request` by turns with two models; return each switch, and each model's bare work.

    `say` is told each switch as it comes.

    `read_s` is what reading the transformer's cache and copying it to the device takes, `copy_s`
    the copying alone, from main memory that is not pinned; both in seconds.
    """
    figures: dict[str, Any] = {"switches": []}
    for keep in (None, 0.0):
        # What has no cache yet gets one first, which is no switch.
        settings = replace(options, models=models, keep_gib=keep)
        engine = EngineProcess(models[0], options=settings, limits=PATIENT)
        try:
            for turn in range(_TURNS + 2):
                model = models[turn % 2]
                found = await _drawn(engine, replace(request, model=model))
                if turn >= 1:
                    figures["switches"].append({"to": model, "keeps": keep != 0, **found})
                    say(f"    switch {json.dumps(figures['switches'][-1])}")
        finally:
            await engine.close()
    figures["bare"] = {model: _bare(options, model, device) for model in models}
    return figures


async def _drawn(engine: EngineProcess, request: EngineRequest) -> dict[str, Any]:
    """Draw; return the seconds of the switch, and where the transformer came from."""
    stages: set[str] = set()
    found: dict[str, Any] = {}
    async for event in engine.generate(request):
        if isinstance(event, Loading):
            stages.add(event.stage)
        elif isinstance(event, Finished):
            found["seconds"] = round(event.timings.get("switch", 0.0), 3)
            found["encode_s"] = round(event.timings.get("encode", 0.0), 3)
    found["from"] = "memory"
    for place, words in (("cache", LOADING), ("files", CONVERTING)):
        if words["transformer"] in stages:
            found["from"] = place
    return found


def _bare(options: EngineOptions, model: str, device: str) -> dict[str, float]:
    folder = cache_folder(options.model_path, model, options.precision)
    first = next(iter(CacheIndex.load(folder, "transformer").items.values()))
    command = [sys.executable, "-c", _BARE, str(folder / first.file), device]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def second_files(folder: Path, models: tuple[str, str], write: Callable[[Path, str], None]) -> None:
    """Have random files of the second model too: links to the first one's, if they are alike."""
    from bot.lab.step.random_files import write_alike  # noqa: PLC0415 - imports torch

    first, second = (home(folder, model) for model in models)
    if find_model(models[0]).family == find_model(models[1]).family:
        write_alike(second, first)
    else:
        write(second, models[1])
