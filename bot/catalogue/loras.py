"""LoRA files that users may choose: what the folder has, and what a user's words mean."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bot.catalogue.lightning import Lightning, is_lightning, ranked
from bot.catalogue.lora_family import made_for
from bot.catalogue.lora_layers import lora_target
from bot.catalogue.lora_rules import SUFFIX, LoraChoice, LoraRules
from bot.catalogue.models import ModelSpec
from bot.domain.request import LORA_NAME, ImageRequest
from bot.errors import InvalidRequest
from bot.words import _, mark

log = logging.getLogger(__name__)

STRENGTH_MAX: Final = 2.0
"""What users may ask for; published files are made for 1, and tear the picture above 2."""
_FRESH_S: Final = 5.0
_PATIENCE_S: Final = 0.3
_NAMED: Final = 15
_STREAM_ONLY: Final = mark("LoRAs work with IMAGE_OFFLOAD=stream only.")
_NO_SUPPORT: Final = mark("This model draws without LoRAs; leave that option out.")


@dataclass(frozen=True, slots=True)
class Loras:
    """What the folder had when it was last looked at.

    `lightning` is what the quality `fast` draws with; `refusal` says why there are no LoRAs at all.
    """

    choices: tuple[LoraChoice, ...] = ()
    lightning: Lightning | None = None
    fast: tuple[str, ...] = ()
    """All Lightning files, which earlier pictures may have been drawn with."""
    misnamed: tuple[str, ...] = ()
    """Files named as Lightning files for the model whose layers are another one's."""
    missing: tuple[str, ...] = ()
    """Files that IMAGE_LORAS names and that are not there."""
    unusable: tuple[str, ...] = ()
    """Files whose names no request can have."""
    refusal: str | None = None
    others: tuple[LoraChoice, ...] = ()
    """Those that are made for another of the offered models."""
    model: str = ""
    """The model that the folder was looked at for, where there are `others`."""

    def find(self, text: str) -> LoraChoice:
        """Return the LoRA of this name or file, in any case; raise `InvalidRequest`."""
        if self.refusal is not None:
            raise InvalidRequest(_(self.refusal))
        wanted = " ".join(text.split()).casefold()
        by_name = {choice.name.casefold(): choice for choice in self.choices}
        by_file = {choice.file.casefold(): choice for choice in self.choices}
        found = by_name.get(wanted) or by_file.get(wanted.removesuffix(SUFFIX))
        if found is not None:
            return found
        for other in self.others:
            if wanted.removesuffix(SUFFIX) in {other.name.casefold(), other.file.casefold()}:
                raise self._for_another(other.name)
        if not self.choices:
            raise InvalidRequest(_("There is no LoRA of that name; there are none."))
        known = ", ".join(f"`{choice.name}`" for choice in self.choices[:_NAMED])
        if len(self.choices) > _NAMED:
            known += ", …"
        raise InvalidRequest(
            _("There is no LoRA of that name; there are: {known}.").format(known=known)
        )

    def require(self, request: ImageRequest) -> None:
        """Raise `InvalidRequest` where an older picture's LoRA may not be chosen any more."""
        allowed = {choice.file for choice in self.choices} | set(self.fast)
        gone = [name for name, _strength in request.lora_strengths() if name not in allowed]
        if gone and gone[0] in {other.file for other in self.others}:
            raise self._for_another(gone[0])
        if gone:
            raise InvalidRequest(
                _("This picture was made with the LoRA {name}, which is not there now.").format(
                    name=f"`{gone[0]}`"
                )
            )

    def _for_another(self, name: str) -> InvalidRequest:
        return InvalidRequest(
            _("The LoRA {name} is made for another model, not for {model}.").format(
                name=f"`{name}`", model=self.model
            )
        )

    def like(self, text: str) -> list[LoraChoice]:
        """Return those with this text in their name, file or words; at the name's start first."""
        wanted = " ".join(text.split()).casefold()
        found = [
            choice
            for choice in self.choices
            if any(wanted in t.casefold() for t in (choice.name, choice.file, choice.words))
        ]
        return sorted(found, key=lambda choice: not choice.name.casefold().startswith(wanted))


NO_LORAS: Final = Loras()


@dataclass(frozen=True, slots=True)
class LoraFolder:
    """IMAGE_LORA_PATH with the settings about it."""

    path: Path
    rules: LoraRules
    model: ModelSpec
    streamed: bool = True
    fast_is_set: bool = False
    """Whether IMAGE_QUALITY_FAST says what `fast` is, which counts before a Lightning file."""
    several: bool = False
    """Whether other models are offered besides: then what is made for another is left out."""

    def look(self) -> Loras:
        """Return what is there now; blocks on the disk."""
        if not (self.model.streamed and self.streamed):
            refusal = _STREAM_ONLY if self.model.streamed else _NO_SUPPORT
            return Loras(refusal=refusal)
        try:
            there = sorted(path.stem for path in self.path.glob(f"*{SUFFIX}") if path.is_file())
        except OSError:
            there = []
        usable = [file for file in there if LORA_NAME.fullmatch(file)]
        choices = [choice for choice in self.rules.named if choice.file in usable]
        if self.rules.others:
            taken = {c.file for c in choices} | {c.name.casefold() for c in choices}
            choices += [
                LoraChoice(file, file)
                for file in usable
                if not ({file, file.casefold()} & taken or is_lightning(file))
            ]
        others = [c for c in choices if self.several and self._is_for_another(c.file)]
        lightning = ranked(self.model.name, usable)
        misnamed = tuple(one.file for one in lightning if self._is_for_another(one.file))
        fitting = (one for one in lightning if one.file not in misnamed)
        return Loras(
            choices=tuple(choice for choice in choices if choice not in others),
            lightning=None if self.fast_is_set else next(fitting, None),
            fast=tuple(filter(is_lightning, usable)),
            misnamed=misnamed,
            missing=tuple(c.file for c in self.rules.named if c.file not in usable),
            unusable=tuple(file for file in there if file not in usable),
            others=tuple(others),
            model=self.model.name if others else "",
        )

    def _is_for_another(self, file: str) -> bool:
        target = made_for(self.path / f"{file}{SUFFIX}")
        return target not in {None, lora_target(self.model.family)}


@dataclass(slots=True)
class LoraCache:
    """What the folder has, remembered for some seconds; the disk is read in a thread."""

    folder: LoraFolder
    clock: Callable[[], float] = time.monotonic
    _known: Loras = NO_LORAS
    _looked_at: float | None = None
    _looking: asyncio.Task[None] | None = field(default=None, repr=False)

    async def start(self) -> None:
        """Look for the first time, and say in the log what is wrong there."""
        known = self._known = await asyncio.to_thread(self.folder.look)
        self._looked_at = self.clock()
        for file in known.missing:
            log.warning("IMAGE_LORAS names %s%s, which is not there", file, SUFFIX)
        for file in known.unusable:
            log.warning("no request can name the LoRA file %r: rename it", f"{file}{SUFFIX}")
        for file in known.misnamed:
            log.warning(
                "%s%s has another model's layers: fast of %s leaves it out",
                file,
                SUFFIX,
                self.folder.model.name,
            )
        if known.lightning is not None:
            log.info("the quality fast draws with %s", known.lightning.file)

    async def known(self) -> Loras:
        """Return what is there; what was there before where the disk takes too long."""
        fresh = self._looked_at is not None and self.clock() - self._looked_at < _FRESH_S
        if not fresh:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look(), name="loras")
            # Where nothing is known yet, an impatient answer would be that there are none.
            patience = None if self._looked_at is None else _PATIENCE_S
            await asyncio.wait({self._looking}, timeout=patience)
        return self._known

    async def _look(self) -> None:
        try:
            self._known = await asyncio.to_thread(self.folder.look)
            self._looked_at = self.clock()
        finally:
            self._looking = None
