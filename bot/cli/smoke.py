"""`python -m bot smoke`: does this machine draw? One picture, or with `--full` three harder ones.

The prompts of `--full` are of the three kinds in the tests of the server that this project comes
from: a simple portrait, Chinese text, a complex scene with English text.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from PIL import Image, ImageStat

from bot.app.engines import build_engine
from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import short_name
from bot.config.settings import Settings
from bot.doctor.smoke import keep
from bot.domain.request import GUIDANCE_MIN
from bot.engine.protocol import Engine, EngineRequest, Finished, Loaded, Loading, Picture
from bot.errors import BotError, DatabaseError, EngineError
from bot.pictures.grid import make_grid
from storage.lock import InstanceLock
from storage.plain_files import read_plain

Say = Callable[[str], None]

SHEET: Final = "contact-sheet.png"
_SEED: Final = 12345
_PICTURE_BYTES: Final = 2**28
# A picture of noise or of one colour means that weights are wrong; the plainest true one has more.
_FLAT: Final = 2.0

_PROMPTS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "qwen-image": (
        ("portrait", "A portrait of an old fisherman with a white beard, soft morning light"),
        ("chinese-text", "A traditional scroll with '人工智能' in black calligraphy, red seal"),
        (
            "scene-with-text",
            "A busy night market in the rain, a neon sign that says 'OPEN 24 HOURS', wet streets",
        ),
    ),
    "tiny": (
        ("portrait", "an orange cat face"),
        ("chinese-text", '"月" in brown on a pink background'),
        ("scene-with-text", "CAT in white letters on blue"),
    ),
}


@dataclass(frozen=True)
class Shot:
    """One picture: how long each stage took (seconds) and the most GPU memory used (bytes).

    `report` is what the doctor tells of it.
    """

    name: str
    path: Path
    timings: Mapping[str, float]
    peak_gpu_bytes: int | None
    flat: bool
    report: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def smoke(
    settings: Settings, models: Sequence[ModelSpec], folder: Path, say: Say, *, full: bool
) -> bool:
    """Draw with each of `models` into `folder` (made if missing) and `say` how it went.

    Several have a folder each in it, and one that fails does not hinder the others. Returns False
    if one failed, or a picture is empty. Raises `BotError` when the bot itself is running, and
    `BotError` or `EngineError` when the engine fails with the only model.
    """
    require_idle(settings, models)
    well, reports = True, list[Mapping[str, Any]]()
    for spec in models:
        several = len(models) > 1
        try:
            place = folder / short_name(spec.name) if several else folder
            shots = await _draw(settings, spec, place, say, full=full)
        except BotError as error:
            if not several:
                raise
            told = error.spoken() or error.detail if isinstance(error, EngineError) else error
            say(f"{spec.name} failed: {told}")
            well = False
            continue
        reports.append(shots[0].report)
        well = well and not any(shot.flat for shot in shots)
        if several:
            say("")
    if reports and (kept := await asyncio.to_thread(keep, settings, reports)):
        say(f"Kept in {kept} for `python -m bot doctor --json`, which is what a report wants.")
    return well


async def _draw(
    settings: Settings, spec: ModelSpec, folder: Path, say: Say, *, full: bool
) -> list[Shot]:
    """Draw with one model into `folder`; return its pictures."""
    prompts = _prompts(spec)[: None if full else 1]
    try:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        text = f"The folder {folder} cannot be made ({error.strerror})"
        raise BotError(f"{text}: name another one with --out.") from None
    say(f"{spec.name}, {settings.image_precision}, {len(prompts)} picture(s) into {folder}/")
    with tempfile.TemporaryDirectory() as work:
        own = settings.model_copy(update={"image_model_name": spec.name})
        engine = build_engine(own, work_path=Path(work))
        try:
            shots = [
                await _shoot(engine, spec, name, prompt, Path(work), folder, say)
                for name, prompt in prompts
            ]
        finally:
            await engine.close()
    say("")
    for line in table(shots):
        say(line)
    if full:
        sheet = folder / SHEET
        sheet.write_bytes(make_grid([shot.path.read_bytes() for shot in shots], columns=len(shots)))
        say(f"All of them: {sheet}")
    empty = [shot.path.name for shot in shots if shot.flat]
    if empty:
        say(
            f"Nearly of one colour: {', '.join(empty)}. The model's files may be damaged: "
            "see `python -m bot doctor`."
        )
    return shots


def require_idle(settings: Settings, models: Sequence[ModelSpec]) -> None:
    """Raise `BotError` while the bot itself runs: the card holds one model, not two."""
    path = settings.database_path.with_name(f"{settings.database_path.name}.lock")
    if all(spec.built_in for spec in models) or not settings.database_path.exists():
        return
    try:
        InstanceLock(path).release()
    except DatabaseError:
        raise BotError(
            "The bot is running and has the card: ask it for a picture, or stop it first."
        ) from None


def _prompts(spec: ModelSpec) -> Sequence[tuple[str, str]]:
    return _PROMPTS.get(spec.family, _PROMPTS["qwen-image"])


async def _shoot(
    engine: Engine, spec: ModelSpec, name: str, prompt: str, work: Path, folder: Path, say: Say
) -> Shot:
    """Draw in the folder `work`, and move the picture to `folder`."""
    quality = spec.qualities[spec.default_quality]
    width, height = spec.sizes[spec.default_aspect]
    told: tuple[str, int] | None = None
    loaded: Loaded | None = None
    finished: Finished | None = None
    sha256: str | None = None
    request = EngineRequest(
        job_id=f"smoke-{name}",
        prompt=prompt,
        negative_prompt=spec.negative if quality.guidance > GUIDANCE_MIN else "",
        width=width,
        height=height,
        steps=quality.steps,
        guidance=quality.guidance,
        seeds=(_SEED,),
        output_dir=work,
        texts=({"prompt": prompt},),
        cfg_norm=spec.cfg_norm and quality.guidance > GUIDANCE_MIN,
    )
    async for event in engine.generate(request):
        if isinstance(event, Loading):
            tenth = (event.stage, math.floor(10 * (event.fraction or 0.0)))
            if tenth != told:
                told = tenth
                say(f"  {event.stage} … {event.fraction or 0.0:.0%}".removesuffix(" 0%"))
        elif isinstance(event, Loaded):
            loaded = event
            say(f"  loaded in {event.seconds:.1f} s on {event.device}")
        elif isinstance(event, Picture):
            sha256 = event.sha256
        elif isinstance(event, Finished):
            finished = event
    if finished is None:
        raise BotError("The engine ended without a picture.")
    path = folder / f"{name}.png"
    path.write_bytes(read_plain(work, "0.png", _PICTURE_BYTES, sha256))
    say(f"  {path.name}: {prompt}")
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    flat = max(ImageStat.Stat(pixels).stddev) < _FLAT
    report = {"model": spec.name, **_report(request, loaded, finished, pixels)}
    return Shot(name, path, finished.timings, finished.peak_gpu_bytes, flat, report)


def _report(
    request: EngineRequest, loaded: Loaded | None, finished: Finished, pixels: Image.Image
) -> dict[str, Any]:
    """Return what the doctor reports of a picture; seconds by stage, sizes in bytes.

    The hash is of the pixels, 8 bits of red, green and blue each, since packers of PNG differ.
    """
    return {
        "drawn_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": loaded.device if loaded else None,
        "load_seconds": round(loaded.seconds, 3) if loaded else None,
        "prompt": request.prompt,
        "seed": request.seeds[0],
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance": request.guidance,
        "seconds": {stage: round(seconds, 3) for stage, seconds in finished.timings.items()},
        "peak_gpu_bytes": finished.peak_gpu_bytes,
        "sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
    }


def table(shots: Sequence[Shot]) -> list[str]:
    """Return the lines of a table of what was measured."""
    stages = list(dict.fromkeys(stage for shot in shots for stage in shot.timings))
    head = f"{'picture':16}" + "".join(f"{stage:>10}" for stage in stages) + f"{'peak GiB':>10}"
    lines = [head]
    for shot in shots:
        seconds = "".join(f"{shot.timings.get(stage, 0.0):>10.2f}" for stage in stages)
        peak = "-" if shot.peak_gpu_bytes is None else f"{shot.peak_gpu_bytes / 2**30:.2f}"
        lines.append(f"{shot.name:16}{seconds}{peak:>10}")
    return lines
