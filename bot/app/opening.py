"""What the log says of a bot at its start: the invitation, the model, and the cards' budgets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from bot.app.engines import Planned
from bot.catalogue.models import ModelSpec
from bot.client.login import invitation
from bot.config.settings import Settings
from bot.engine.card_budget import GIB, CardMemory, card_budget
from bot.engine.files.find import bytes_to_fetch, cached_precision, find

log = logging.getLogger(__name__)

_NO_CARD: Final = (
    "NVIDIA's driver shows no graphics card, which %s: `python -m bot doctor` looks for the reason"
)


def log_opening(settings: Settings, engines: Sequence[Planned], application_id: int | None) -> None:
    """Log how the bot is invited and what it draws with; looks at the disk for several models."""
    # The sandbox's bot is where it belongs already.
    if application_id is not None and settings.discord_api_url is None:
        log.info("invite the bot with %s", invitation(application_id))
    models = settings.models
    for line in _drawing(settings, models, engines):
        log.info("%s", line)
    cards = any(one.gpu for one in engines)
    needing = [spec.name for spec in models if not spec.built_in]
    if needing and not cards and settings.engines != "ray":
        log.warning(_NO_CARD, "this model needs" if len(models) == 1 else _needed(needing))


def _drawing(
    settings: Settings, models: Sequence[ModelSpec], engines: Sequence[Planned]
) -> Iterator[str]:
    first, *others = models
    yield f"it draws with {_described(settings, first)}"
    for spec in others:
        yield f"or, where it is asked for, with {_described(settings, spec)}"
    if all(spec.built_in for spec in models):
        return
    if others and settings.engines != "ray":
        yield from _lacking(settings, models)
    for one in engines:
        card = one.gpu
        if card is None or not card.total:
            continue
        budget = card_budget(
            CardMemory(card.total, card.free),
            settings.image_vram_gb,
            settings.image_gpu_memory_utilization,
        )
        yield (
            f"{one.name} may take {budget.bytes / GIB:.1f} of {card.total / GIB:.1f} GiB "
            f"(by {budget.bound}): {card.name or 'graphics card'}"
        )


def _described(settings: Settings, spec: ModelSpec) -> str:
    if spec.built_in:
        return f"{spec.name}, a toy that knows shapes, simple things and short words"
    where = ", on a Ray cluster" if settings.engines == "ray" else ""
    return f"{spec.name} ({settings.image_precision}){where}"


def _lacking(settings: Settings, models: Sequence[ModelSpec]) -> Iterator[str]:
    """Yield which models have to be downloaded before their first picture; looks at the disk."""
    for spec in models:
        if spec.published is None:
            continue
        root, offload = settings.image_model_path, settings.image_offload
        precision = cached_precision(root, spec.name, offload, settings.image_precision)
        if find(settings.image_model_path, spec.name, precision)[1]:
            yield (
                f"{spec.name} is not complete on the disk: its first picture downloads it "
                f"({bytes_to_fetch(root, spec.name, precision) / 1e9:.0f} GB in all); now: "
                f"python -m bot download {spec.name}"
            )


def _needed(names: Sequence[str]) -> str:
    return f"{' and '.join(names)} {'needs' if len(names) == 1 else 'need'}"
