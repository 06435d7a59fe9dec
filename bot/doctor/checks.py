"""The registry of checks: each with the seconds that it may take and when it is run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from bot.doctor.account import account, token_there
from bot.doctor.backups import backups
from bot.doctor.card import graphics_card, pytorch
from bot.doctor.database import integrity, schema, sqlite_version
from bot.doctor.disk import data_folder, free_disk, private_files, temporary_files
from bot.doctor.engine import confinement, last_fault, log_folder, secret_file
from bot.doctor.finding import Check
from bot.doctor.host import compiler, kept_models, main_memory, pinned_memory
from bot.doctor.hub import model_hub
from bot.doctor.loras import lora_files
from bot.doctor.model import licence, model_files, model_hashes
from bot.doctor.model_disk import model_disk
from bot.doctor.names import setting_names
from bot.doctor.packages import optional_packages
from bot.doctor.pictures import pictures
from bot.doctor.precision import precision
from bot.doctor.smoke import last_smoke


class Depth(IntEnum):
    """How much is looked at: what takes a moment, what an installation wants, every byte."""

    QUICK = 0
    USUAL = 1
    FULL = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """A check; past `limit_s` it counts as hanging, and is left behind.

    `also` are the names under which it says more than under its own: `--only` knows them too.
    """

    check: Check
    depth: Depth = Depth.QUICK
    limit_s: float = 60.0
    also: tuple[str, ...] = ()


_HOUR_S: Final = 3600.0

CHECKS: Final[dict[str, Entry]] = {
    ".env": Entry(secret_file),
    "setting names": Entry(setting_names),
    "optional packages": Entry(optional_packages),
    "engine confinement": Entry(confinement),
    "graphics card": Entry(graphics_card, also=("graphics memory",)),
    "PyTorch": Entry(pytorch, Depth.USUAL, 180.0),
    "main memory": Entry(main_memory),
    "pinned memory": Entry(pinned_memory),
    "models kept": Entry(kept_models),
    "precision": Entry(precision),
    "compiler": Entry(compiler),
    "model files": Entry(model_files),
    "licence": Entry(licence),
    "model disk": Entry(model_disk),
    "model hashes": Entry(model_hashes, Depth.FULL, _HOUR_S),
    "LoRA files": Entry(lora_files),
    "model hub": Entry(model_hub, Depth.USUAL),
    "bot token": Entry(token_there),
    "Discord": Entry(
        account,
        Depth.USUAL,
        also=("clock", "application", "invitation", "intents", "servers", "gateway"),
    ),
    "data folder": Entry(data_folder),
    "free disk": Entry(free_disk),
    "private files": Entry(private_files),
    "log": Entry(log_folder),
    "SQLite": Entry(sqlite_version),
    "database": Entry(integrity, Depth.USUAL, _HOUR_S),
    "schema": Entry(schema),
    "backups": Entry(backups, Depth.USUAL, _HOUR_S),
    "pictures": Entry(pictures, Depth.USUAL, _HOUR_S),
    "temporary files": Entry(temporary_files),
    "last engine error": Entry(last_fault),
    "last smoke": Entry(last_smoke),
}
