"""The engines of the settings: how many there are, and which card each one has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bot.config.settings import Settings
from bot.engine.cluster.membership import RayMembership
from bot.engine.parent.process import EngineOptions, EngineProcess
from bot.engine.protocol import Engine
from bot.errors import StartupError
from bot.fleet.fleet import Fleet
from bot.machine import nvidia
from storage.images import engine_folder


@dataclass(frozen=True, slots=True)
class Planned:
    """An engine that is not started, its name in the bot, and its card if that is known."""

    name: str
    engine: Engine
    gpu: nvidia.Gpu | None = None

    @property
    def card(self) -> str | None:
        """The card's name, if that is known."""
        return self.gpu and self.gpu.name


def build_engine(
    settings: Settings, card: nvidia.Gpu | None = None, *, work_path: Path | None = None
) -> Engine:
    """Return an engine of the settings, not started, which sees `card` alone, if one is given.

    It writes beneath `work_path`; without one it is not confined.
    """
    return EngineProcess(
        settings.image_model_name,
        options=replace(engine_options(settings), work_path=work_path),
        environment={} if card is None else {nvidia.VISIBLE: card.id},
    )


def engine_options(settings: Settings) -> EngineOptions:
    """Return what the settings say of every engine."""
    return EngineOptions(
        model_path=settings.image_model_path,
        lora_path=settings.image_lora_path,
        model_source=settings.model_source,
        vram_gb=settings.image_vram_gb,
        gpu_memory_utilization=settings.image_gpu_memory_utilization,
        offload=settings.image_offload,
        precision=settings.image_precision,
        compile=settings.image_compile,
        confinement=settings.engine_confinement,
        models=tuple(model.name for model in settings.models),
        keep_gib=settings.image_keep_models,
        closed=tuple(str(path.absolute()) for path in _closed(settings)),
    )


def _closed(settings: Settings) -> Iterator[Path]:
    """Yield what no engine may open: secrets, the database, other people's pictures, the log."""
    yield from (Path(".env"), settings.data_dir)
    if settings.log_folder is not None:
        yield settings.log_folder


def cluster_engines(settings: Settings, fleet: Fleet) -> RayMembership:
    """Return what brings the engines of a Ray cluster into `fleet` and takes them out again."""

    async def joined(name: str, engine: Engine, node: str, card: str | None) -> None:
        await fleet.add(name, engine, node=node, card=card)

    return RayMembership(
        settings.ray_address or None,
        model=settings.image_model_name,
        options=engine_options(settings),
        joined=joined,
        left=fleet.remove,
    )


def local_engines(settings: Settings) -> list[Planned]:
    """Return the engines of this machine, by ENGINES: one per card, or as many as are set.

    May block a while. The toy models need no card; the engines of ENGINES=ray join later. Raises
    `StartupError` where more engines than cards are asked for.
    """
    if settings.engines == "ray":
        return []
    wanted = settings.local_engines
    if all(spec.built_in for spec in settings.models):
        return [_planned(settings, number, None) for number in range(wanted or 1)]
    found = nvidia.with_memory(nvidia.visible())
    if not found and wanted in {None, 1}:
        # The engine itself says best what is wrong with the card.
        return [_planned(settings, 0, None)]
    if wanted is not None and wanted > len(found):
        raise StartupError(
            f"ENGINES=local:{wanted} needs {wanted} graphics cards; this machine shows "
            f"{len(found)} (nvidia-smi and CUDA_VISIBLE_DEVICES say which)."
        )
    return [_planned(settings, number, card) for number, card in enumerate(found[:wanted])]


def _planned(settings: Settings, number: int, card: nvidia.Gpu | None) -> Planned:
    name = f"local-{number}"
    work = engine_folder(settings.images_dir, name).absolute()
    engine = build_engine(settings, card, work_path=work)
    return Planned(name, engine, card)
