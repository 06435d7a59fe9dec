"""Composition of a request: what was asked, what its user and server have set, the model."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bot.catalogue.lightning import GUIDANCE
from bot.catalogue.lora_rules import LoraChoice
from bot.catalogue.loras import NO_LORAS, Loras
from bot.catalogue.models import BALANCED, ModelSpec, Quality
from bot.catalogue.styles import Style, find_style
from bot.domain.request import COUNT_MAX, GUIDANCE_MIN, ImageRequest, random_seed
from bot.domain.writing import Enhance, Writing
from bot.errors import InvalidRequest
from bot.jobs.enhancing import require_writer, usual_enhance
from bot.jobs.rewriting import is_chinese
from bot.rules.preferences import UNSET, Defaults
from bot.words import _

DEFAULT_STRENGTH: Final = 0.6
FAST: Final = "fast"
"""The quality that a Lightning file takes over where there is one."""
# The additions that Qwen-Image's model card recommends.
SUFFIX_EN: Final = "Ultra HD, 4K, cinematic composition."
SUFFIX_ZH: Final = "超清，4K，电影级构图."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user said; None is left to defaults."""

    prompt: str
    model: str | None = None
    aspect: str | None = None
    quality: str | None = None
    count: int | None = None
    seed: int | None = None
    negative: str | None = None
    guidance: float | None = None
    steps: int | None = None
    style: str | None = None
    lora: str | None = None
    lora_strength: float | None = None
    strength: float | None = None
    private: bool | None = None
    transparent: bool | None = None
    parent: str | None = None
    enhance: str | None = None
    """What becomes of the prompt before it is drawn, an `Enhance`."""
    draft: bool = False
    """Whether several pictures in few steps are asked for, of which one is finished then."""
    flags: str = ""
    """The flags that were read in the prompt, which has them no longer."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What holds where it was asked."""

    model: ModelSpec
    user: Defaults = UNSET
    guild: Defaults = UNSET
    styles: Sequence[Style] = ()
    suffix: bool = False
    loras: Loras = NO_LORAS
    offered: Sequence[ModelSpec] = ()
    """All models that there are, for a sentence about one that cannot do what is asked."""
    allowed: Sequence[ModelSpec] = ()
    """Those that whoever asks may use there; besides the one that draws, they may write."""


def compose(asked: Asked, around: Surroundings) -> ImageRequest:
    """Return the request: what was asked, else the user's default, the server's, the model's.

    Raises `InvalidRequest`.
    """
    model = around.model
    own, shared = around.user, around.guild
    if asked.draft:
        asked = _as_draft(asked, model)
    aspect = _known(model.sizes, asked.aspect, own.aspect, shared.aspect, model.default_aspect)
    quality = _known(
        model.qualities, asked.quality, own.quality, shared.quality, model.default_quality
    )
    width, height = model.sizes[aspect]
    level = model.qualities[quality]
    lightning = around.loras.lightning if quality == FAST else None
    if lightning is not None:
        level = Quality(lightning.steps, GUIDANCE)
    lora = chosen_lora(asked, around)
    files = [f"{lightning.file}:1"] if lightning else []
    if lora is not None and not (lightning and lora.file == lightning.file):
        files.append(f"{lora.file}:{lora.strength:g}")
    style = _style(asked.style, around)
    if model.noise_levels and asked.steps not in (None, level.steps):
        raise InvalidRequest(
            _("{model} was made for {steps} steps and draws in no other number.").format(
                model=model.name, steps=level.steps
            )
        )
    transparent = asked.transparent is True
    if transparent and not model.alpha:
        raise InvalidRequest(no_transparency(model, around.offered))
    guidance = level.guidance if asked.guidance is None else asked.guidance
    negative = default_negative(around) if asked.negative is None else asked.negative
    guided_away = guidance > GUIDANCE_MIN and lightning is None and not says_none(negative)
    enhance = _enhance(asked, around)
    private = next(
        (p for p in (asked.private, own.private, shared.private) if p is not None), False
    )
    chinese = is_chinese(asked.prompt)
    added = [style.prompt] if style and style.prompt else []
    if lora and lora.words and lora.words.casefold() not in asked.prompt.casefold():
        added.insert(0, lora.words)
    if around.suffix:
        added.append(SUFFIX_ZH if chinese else SUFFIX_EN)
    return ImageRequest(
        prompt=asked.prompt,
        negative_prompt="" if is_none(negative) else negative,
        width=width,
        height=height,
        steps=level.steps if asked.steps is None else asked.steps,
        guidance=guidance,
        seed=random_seed() if asked.seed is None else asked.seed,
        count=asked.count or own.count or shared.count or 1,
        aspect=aspect,
        quality=quality,
        style=style.name if style else None,
        added=", ".join(added),
        added_negative=style.negative if style else "",
        model_negative=model.negative if guided_away else "",
        cfg_norm=model.cfg_norm and guidance > GUIDANCE_MIN,
        references_once=model.references_once,
        strength=asked.strength,
        loras=tuple(files),
        shift=lightning.shift if lightning else None,
        reuse=level.reuse,
        private=private,
        transparent=transparent,
        parent=asked.parent,
        flags=asked.flags,
        enhance=enhance is Enhance.ALWAYS,
        writes=Writing.ENHANCE.value if enhance is Enhance.ASK else "",
    )


def _as_draft(asked: Asked, model: ModelSpec) -> Asked:
    """Return what a draft asks for: the most pictures, in few steps, unless it says otherwise."""
    few = FAST if FAST in model.qualities else None
    return replace(asked, count=asked.count or COUNT_MAX, quality=asked.quality or few)


def no_transparency(model: ModelSpec, offered: Sequence[ModelSpec]) -> str:
    """Return the sentence that `model` draws opaque pictures, and which of the `offered` can."""
    able = [one.name for one in offered if one.alpha]
    if not able:
        return _("{model} cannot draw a transparent background.").format(model=model.name)
    return _("{model} cannot draw a transparent background; {models} can.").format(
        model=model.name, models=", ".join(able)
    )


def chosen_lora(asked: Asked, around: Surroundings) -> LoraChoice | None:
    """Return the LoRA that was asked for, with the strength that counts; raise `InvalidRequest`."""
    if asked.lora is None or is_none(asked.lora):
        if asked.lora_strength is not None:
            raise InvalidRequest(_("Choose a LoRA to use a LoRA strength."))
        return None
    found = around.loras.find(asked.lora)
    return found if asked.lora_strength is None else replace(found, strength=asked.lora_strength)


def default_negative(around: Surroundings) -> str:
    """Return what pictures should not show where nothing is said."""
    return around.user.negative or around.guild.negative or ""


def is_none(text: str) -> bool:
    """Tell whether a user says that a default is not to count."""
    return not text.strip() or says_none(text)


def says_none(text: str) -> bool:
    """Tell whether a user says so in words, which leaves the model's own default out too."""
    return text.strip().casefold() in {"none", _("none").casefold()}


def shaped_like(
    request: ImageRequest, shape: tuple[int, int], sizes: Mapping[str, tuple[int, int]]
) -> ImageRequest:
    """Return the request in that of the `sizes`, by aspect, which is closest to a picture's shape.

    All are widths and heights in pixels, above 0.
    """
    aspect = nearest_shape(shape, sizes)
    width, height = sizes[aspect]
    return request.with_changes(aspect=aspect, width=width, height=height)


def nearest_shape(shape: tuple[int, int], sizes: Mapping[str, tuple[int, int]]) -> str:
    """Return the aspect of the `sizes` that is closest to a shape; all numbers are above 0."""
    ratio = math.log(shape[0] / shape[1])
    distances = {name: abs(math.log(w / h) - ratio) for name, (w, h) in sizes.items()}
    return min(distances, key=distances.__getitem__)


def suited(request: ImageRequest, model: ModelSpec) -> ImageRequest:
    """Return a request of another model's time without what this one is not drawn with."""
    return request.with_changes(
        steps=len(model.noise_levels) or request.steps,
        model_negative=model.negative if request.model_negative else "",
        cfg_norm=request.cfg_norm and model.cfg_norm,
        references_once=model.references_once,
        reuse=request.reuse if BALANCED in model.qualities else 0.0,
        transparent=request.transparent and model.alpha,
    )


def _enhance(asked: Asked, around: Surroundings) -> Enhance:
    """Return what becomes of the prompt; a default counts for nothing where no model writes."""
    if asked.enhance is not None:
        wished = Enhance(asked.enhance)
        if wished is not Enhance.OFF:
            require_writer(around.allowed, around.model, offered=around.offered)
        return wished
    return usual_enhance((around.user, around.guild), around.allowed, around.model)


def _known(choices: Container[str], *names: str | None) -> str:
    return next(name for name in names if name and name in choices)


def _style(name: str | None, around: Surroundings) -> Style | None:
    if name is None:
        # A default may name a style that was removed since; that refuses nothing.
        default = around.user.style or around.guild.style
        return find_style(default, around.styles) if default else None
    if is_none(name):
        return None
    found = find_style(name, around.styles)
    if found is None:
        raise InvalidRequest(
            _("There is no style of that name; choose one from the list that opens as you type.")
        )
    return found
