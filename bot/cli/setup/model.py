"""Which model: by the card's size, the main memory, the room on the disk, and the licence."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import SERIES
from bot.catalogue.models import MODELS, ModelSpec
from bot.catalogue.offered import find_offered
from bot.cli.setup.ask import Asker
from bot.cli.setup.options import ACCEPT, MODEL_PATH
from bot.config.settings import Settings
from bot.doctor.budget import ALL_RESIDENT_GIB, SMI_S
from bot.doctor.disk import existing
from bot.doctor.model_disk import still_needed
from bot.engine.card_budget import CardMemory, card_budget
from bot.engine.host_memory import total_memory
from bot.errors import BotError, StartupError
from bot.machine import nvidia
from bot.words import _

_GIB: Final = 2**30
_GB: Final = 1e9
_USUAL: Final = ("Qwen/Qwen-Image", "stabilityai/stable-diffusion-xl-base-1.0", "tiny")
"""What is proposed, the first that fits; licences that allow commercial use alone."""
_FIRST: Final = {name: spec for name, spec in MODELS.items() if spec.draws}
"""What a bot may begin with: a model that edits alone needs one that draws beside it."""
_MBIT_BYTES: Final = 125_000


def choose_model(settings: Settings, asker: Asker, given: str | None, *, accepted: bool) -> str:
    """Return the name of the model that is given, set already, or chosen.

    Raises `BotError` for a name that means no model, and `StartupError` where a licence without
    commercial use is not `accepted` and nobody can be asked.
    """
    asker.heading(_("2. The model"))
    card = _card(asker)
    ram = total_memory()
    if given is None and "image_model_name" in settings.model_fields_set:
        asker.say(_("IMAGE_MODEL_NAME is set: {name}.").format(name=settings.image_model_name))
        return settings.image_model_name
    lacks = {name: _lacks(settings, spec, card, ram) for name, spec in _FIRST.items()}
    usual = next(name for name in _USUAL if lacks[name] is None)
    if given is None:
        for number, (name, spec) in enumerate(_FIRST.items(), 1):
            asker.say(f"  {number}  {name}: {_described(settings, spec, card, lacks[name])}")
    asker.say(_("docs/models.md compares them; more can be offered later with IMAGE_MODELS."))
    name = _named(given) if given else None
    while True:
        if name is None:
            name = asker.ask(_("Model, by number or name:"), _read, usual, "--model")
        if lacks[name] is not None:
            asker.say(_("This machine is too small for it: {lack}.").format(lack=lacks[name]))
        if _licensed(_FIRST[name], asker, accepted=accepted):
            return name
        name = None


def choose_folder(settings: Settings, asker: Asker, *, drop: bool) -> Path:
    """Return a folder for the models' files that has room for what is still to come.

    Raises `BotError` where nobody can be asked for another one.
    """
    asker.heading(_("3. Room on the disk"))
    while True:
        folder = settings.image_model_path
        needed = still_needed(settings, settings.models, drop=drop)
        place = existing(folder)
        free = shutil.disk_usage(place).free
        asker.say(
            _("{needed} GB are still to come to {folder}, {free} GB are free there.").format(
                needed=f"{needed / _GB:.0f}", folder=folder.absolute(), free=f"{free / _GB:.0f}"
            )
        )
        if free >= needed:
            return folder
        sentence = _("That is too little: make room, or name a folder on a larger disk.")
        if not asker.asking:
            raise BotError(f"{sentence} ({MODEL_PATH})")
        asker.say(sentence)
        answer = asker.ask(_("Folder of the models' files:"), str, str(folder), MODEL_PATH)
        settings = settings.model_copy(update={"image_model_path": Path(answer)})


def wants_lightning(settings: Settings, asker: Asker, given: bool | None) -> bool:
    """Return whether the Lightning file of the model is wanted, if it has any."""
    series = SERIES.get(settings.image_model_name)
    if series is None or settings.image_offload != "stream":
        return False
    if given is not None:
        return given
    fast = MODELS[settings.image_model_name].qualities["fast"].steps
    asker.say(
        _(
            "Lightning: a LoRA of {size} GB with which the quality fast takes {few} steps instead "
            "of {many}."
        ).format(size=f"{series.file_bytes / _GB:.1f}", few=series.steps[0], many=fast)
    )
    return asker.confirm(_("Get it?"), usual=True)


def hours(size: float) -> str:
    """Return how long a download of `size` bytes takes, by two usual lines."""
    slow, quick = (size / (mbit * _MBIT_BYTES) / 60 for mbit in (100, 1000))
    return _("about {slow} min at 100 Mbit/s, {quick} min at 1 Gbit/s").format(
        slow=f"{slow:.0f}", quick=f"{quick:.0f}"
    )


def _card(asker: Asker) -> nvidia.Gpu | None:
    cards = nvidia.cards(SMI_S)
    if isinstance(cards, str):
        asker.say(
            _("No graphics card of NVIDIA's is found ({reason}): only the toy draws here.").format(
                reason=cards
            )
        )
        return None
    card = max(cards, key=lambda one: one.total)
    asker.say(
        _("Graphics card: {name}, {size} GiB.").format(
            name=card.name, size=f"{card.total / _GIB:.0f}"
        )
    )
    return card


def _budget(settings: Settings, card: nvidia.Gpu) -> int:
    memory = CardMemory(card.total, card.total)
    return card_budget(memory, settings.image_vram_gb, settings.image_gpu_memory_utilization).bytes


def _lacks(
    settings: Settings, spec: ModelSpec, card: nvidia.Gpu | None, ram: int | None
) -> str | None:
    """Return what the machine lacks for a model, in half a sentence; None if nothing."""
    if (published := spec.published) is None:
        return None
    if card is None:
        return _("it needs a graphics card")
    if _budget(settings, card) < published.vram_gib * _GIB:
        return _("it needs {size} GiB of the card").format(size=f"{published.vram_gib:g}")
    if ram is not None and ram < published.ram_gib * _GIB:
        return _("it wants {size} GiB of main memory").format(size=f"{published.ram_gib:g}")
    return None


def _described(
    settings: Settings, spec: ModelSpec, card: nvidia.Gpu | None, lack: str | None
) -> str:
    if (published := spec.published) is None:
        return _("a toy, part of the bot")
    parts = [
        _("{size} GB to download").format(size=f"{published.download_bytes / _GB:.1f}"),
        published.licence,
    ]
    if lack is not None:
        parts.append(lack)
    elif card is not None and (whole := ALL_RESIDENT_GIB.get(spec.family)) is not None:
        stays = _budget(settings, card) >= whole * _GIB
        parts.append(
            _("all of it stays on the card")
            if stays
            else _("a part waits in main memory, which costs little time")
        )
    return " · ".join(parts)


def _licensed(spec: ModelSpec, asker: Asker, *, accepted: bool) -> bool:
    published = spec.published
    if published is None:
        return True
    asker.say(_("Its licence: {licence}.").format(licence=published.licence))
    if published.commercial or accepted:
        return True
    if not asker.asking:
        raise StartupError(
            _("The licence of {name} allows no commercial use: accept it with {option}.").format(
                name=spec.name, option=ACCEPT
            )
        )
    return asker.confirm(_("It allows no commercial use. Is that all right?"), usual=False)


def _read(answer: str) -> str:
    names = list(_FIRST)
    if answer.isdecimal() and 0 < int(answer) <= len(names):
        return names[int(answer) - 1]
    found = find_offered(tuple(_FIRST.values()), answer)
    if found is None:
        raise ValueError(_("it names no model, or several"))
    return found.name


def _named(text: str) -> str:
    try:
        return _read(text)
    except ValueError:
        known: Mapping[str, ModelSpec] = _FIRST
        names = ", ".join(known)
        raise BotError(
            _("There is no model {text}, or several; choose one of: {names}.").format(
                text=repr(text[:100]), names=names
            )
        ) from None
