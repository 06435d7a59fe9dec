"""The parts of the bot that the commands work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bot.archive.audit import AuditLog
from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.archive.reports import Reports
from bot.archive.statistics import Statistics
from bot.catalogue.loras import LoraCache
from bot.catalogue.models import ModelSpec
from bot.client.accept import Intake
from bot.client.attachments import Fetcher
from bot.client.fetch_slots import FetchSlots
from bot.config.settings import Settings
from bot.delivery.card_maker import CardMaker
from bot.delivery.courier import Courier
from bot.fleet.fleet import Fleet
from bot.jobs.blocking import Blocks
from bot.jobs.queue import JobQueue
from bot.regions.process import RegionFinder
from bot.rules.preferences import Preferences
from storage.database import Database


@dataclass(frozen=True, slots=True)
class Services:
    """What the cogs work with."""

    settings: Settings
    model: ModelSpec
    database: Database
    queue: JobQueue
    gallery: Gallery
    models: tuple[ModelSpec, ...]
    """The models that users may choose from; `model`, the configured one, is the first."""
    loras: LoraCache
    loras_by_model: Mapping[str, LoraCache]
    """What each of the models can have, by the model's name."""
    preferences: Preferences
    privacy: Privacy
    blocks: Blocks
    reports: Reports
    fetcher: Fetcher
    fetch_slots: FetchSlots
    regions: RegionFinder
    cards: CardMaker
    courier: Courier
    intake: Intake
    fleet: Fleet
    audit_log: AuditLog
    statistics: Statistics
