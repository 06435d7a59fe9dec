"""The parts of the bot that the commands work with."""

from __future__ import annotations

from dataclasses import dataclass

from bot.archive.audit import Records
from bot.archive.gallery import Gallery
from bot.archive.privacy import Privacy
from bot.archive.reports import Reports
from bot.archive.statistics import Statistics
from bot.catalogue.loras import LoraList
from bot.catalogue.models import ModelSpec
from bot.client.accept import Reception
from bot.client.attachments import Fetcher
from bot.config.settings import Settings
from bot.delivery.courier import Courier
from bot.fleet.fleet import Fleet
from bot.jobs.blocking import Blocks
from bot.jobs.queue import JobQueue
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
    loras: LoraList
    preferences: Preferences
    privacy: Privacy
    blocks: Blocks
    reports: Reports
    fetcher: Fetcher
    courier: Courier
    reception: Reception
    fleet: Fleet
    records: Records
    statistics: Statistics
