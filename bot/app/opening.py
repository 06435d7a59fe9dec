"""What the log says of a bot at its start: the invitation, the model, and the cards' budgets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from bot.app.engines import Planned
from bot.client.login import invitation
from bot.config.settings import Settings
from bot.engine.card_budget import GIB, CardMemory, card_budget

log = logging.getLogger(__name__)

_NO_CARD: Final = (
    "NVIDIA's driver shows no graphics card, which this model needs: `python -m bot doctor` looks "
    "for the reason"
)


def log_opening(settings: Settings, engines: Sequence[Planned], application_id: int | None) -> None:
    """Log how the bot is invited and what it draws with."""
    # The sandbox's bot is where it belongs already.
    if application_id is not None and settings.discord_api_url is None:
        log.info("invite the bot with %s", invitation(application_id))
    for line in _drawing(settings, engines):
        log.info("%s", line)
    cards = any(one.gpu for one in engines)
    if not (cards or settings.model.built_in or settings.engines == "ray"):
        log.warning(_NO_CARD)


def _drawing(settings: Settings, engines: Sequence[Planned]) -> Iterator[str]:
    name = settings.image_model_name
    if settings.model.built_in:
        yield f"it draws with {name}, a toy that knows shapes, simple things and short words"
        return
    where = ", on a Ray cluster" if settings.engines == "ray" else ""
    yield f"it draws with {name} ({settings.image_precision}){where}"
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
