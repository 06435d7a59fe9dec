"""The request for a picture: what a user may ask for, and the sentences for what they may not."""

from __future__ import annotations

import json
import math
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Self

from bot.errors import InvalidRequest
from bot.words import _, mark

PROMPT_LIMIT: Final = 4000
SIZE_MIN, SIZE_MAX, SIZE_MULTIPLE = 256, 2048, 16
STEPS_MAX: Final = 100
GUIDANCE_MIN, GUIDANCE_MAX = 1.0, 20.0
COUNT_MAX: Final = 4
# Discord's INTEGER option and JavaScript's numbers are exact up to 2^53 - 1.
SEED_LIMIT: Final = 2**53
LORA_STRENGTH_MAX: Final = 4.0
SHIFT_MAX: Final = 100.0
REUSE_MAX: Final = 1.0
_COMPUTED: Final = 0.7
"""The share of steps that are computed where predictions are used again, as it was measured."""
# As the authors of Qwen-Image-2.1 ask for a transparent background; both before and after the
# description, and in English whatever its language (https://github.com/QwenLM/Qwen-Image-2.1).
TRANSPARENT_BEFORE: Final = "This is an RGBA image with transparency."
TRANSPARENT_AFTER: Final = "The image has alpha channel and the background is transparent."
LORA_NAME: Final = re.compile(r"\w[\w .-]{0,99}")
REQUEST_VERSION: Final = 1


def random_seed() -> int:
    """Return a seed in [0, 2^53)."""
    return secrets.randbelow(SEED_LIMIT)


def _clean_text(text: str, what: str, limit: int) -> str:
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip()
    for character in text:
        category = unicodedata.category(character)
        if category == "Cs":
            raise InvalidRequest(
                _("The {what} has a broken character in it (half an emoji?).").format(what=_(what))
            )
        if category == "Cc" and character not in "\n\t":
            raise InvalidRequest(
                _("The {what} has an invisible control character in it.").format(what=_(what))
            )
    if len(text) > limit:
        raise InvalidRequest(
            _("The {what} is {length} characters long; at most {limit} are possible.").format(
                what=_(what), length=f"{len(text):,}", limit=f"{limit:,}"
            )
        )
    return text


def _lora(text: str) -> tuple[str, float]:
    name, colon, strength = text.partition(":")
    # A file's stem: no folders, and none of the characters that AUTOMATIC1111's text gives a
    # meaning to.
    if not LORA_NAME.fullmatch(name):
        raise InvalidRequest(_("A LoRA's name has letters, digits, spaces, dots, - and _ only."))
    try:
        value = float(strength) if colon else 1.0
    except ValueError:
        value = math.nan
    if not -LORA_STRENGTH_MAX <= value <= LORA_STRENGTH_MAX:
        raise InvalidRequest(
            _("A LoRA's strength must be from {low} to {high}.").format(
                low=f"{-LORA_STRENGTH_MAX:g}", high=f"{LORA_STRENGTH_MAX:g}"
            )
        )
    return name, value


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """A picture as asked for; frozen, and valid by construction.

    Width and height are pixels, `guidance` is the pipeline's `cfg_scale`, `strength` its
    `denoising_strength` (0 to 1, only with `input_image`, the name of a file of this job's).
    `parent` is the job that this was made from.
    Raises `InvalidRequest` with a sentence for the user when a value is out of range.
    """

    prompt: str
    negative_prompt: str = ""
    width: int = 1344
    height: int = 768
    steps: int = 40
    guidance: float = 4.0
    seed: int = 0
    count: int = 1
    aspect: str | None = None
    quality: str | None = None
    style: str | None = None
    added: str = ""
    """What the style and the model's recommended suffix add to the prompt."""
    added_negative: str = ""
    """What the style adds to the negative prompt."""
    model_negative: str = ""
    """The model's own negative prompt, drawn with where the user gave none."""
    cfg_norm: bool = False
    """Whether guidance keeps the norm of the conditional prediction."""
    reuse: float = 0.0
    """The relative change up to which a step uses the last prediction again; 0 never does."""
    parent: str | None = None
    input_image: str | None = None
    strength: float | None = None
    loras: tuple[str, ...] = ()
    """LoRAs to add, each `name` or `name:strength`."""
    shift: float | None = None
    """How far the noise levels are moved up, for a LoRA that needs it; None is the model's rule."""
    private: bool = False
    transparent: bool = False
    """Whether the background is to be transparent: the picture has an alpha channel."""
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Fields written by a newer version, kept so that they survive a downgrade."""

    def __post_init__(self) -> None:
        prompt = _clean_text(self.prompt, mark("prompt"), PROMPT_LIMIT)
        if not prompt:
            raise InvalidRequest(_("The prompt is empty: say what the picture should show."))
        object.__setattr__(self, "prompt", prompt)
        object.__setattr__(
            self,
            "negative_prompt",
            _clean_text(self.negative_prompt, mark("negative prompt"), PROMPT_LIMIT),
        )
        for name, value in ((mark("width"), self.width), (mark("height"), self.height)):
            if not SIZE_MIN <= value <= SIZE_MAX or value % SIZE_MULTIPLE:
                raise InvalidRequest(
                    _("The {what} must be a multiple of {step} from {low} to {high}.").format(
                        what=_(name), step=SIZE_MULTIPLE, low=SIZE_MIN, high=SIZE_MAX
                    )
                )
        if not 1 <= self.steps <= STEPS_MAX:
            raise InvalidRequest(
                _("The number of steps must be from 1 to {high}.").format(high=STEPS_MAX)
            )
        if not (math.isfinite(self.guidance) and GUIDANCE_MIN <= self.guidance <= GUIDANCE_MAX):
            raise InvalidRequest(
                _("The guidance must be from {low} to {high}.").format(
                    low=f"{GUIDANCE_MIN:g}", high=f"{GUIDANCE_MAX:g}"
                )
            )
        if not 1 <= self.count <= COUNT_MAX:
            raise InvalidRequest(
                _("The number of pictures must be from 1 to {high}.").format(high=COUNT_MAX)
            )
        if not 0 <= self.seed < SEED_LIMIT:
            raise InvalidRequest(
                _("The seed must be a whole number from 0 to {high}.").format(high=SEED_LIMIT - 1)
            )
        if self.strength is not None and not 0.0 < self.strength <= 1.0:
            raise InvalidRequest(_("The strength must be above 0 and at most 1."))
        if self.shift is not None and not 0.0 < self.shift <= SHIFT_MAX:
            raise InvalidRequest(
                _("The shift must be above 0 and at most {high}.").format(high=f"{SHIFT_MAX:g}")
            )
        if not 0.0 <= self.reuse <= REUSE_MAX:
            raise InvalidRequest(
                _("The threshold of reuse must be from 0 to {high}.").format(high=f"{REUSE_MAX:g}")
            )
        object.__setattr__(self, "guidance", float(self.guidance))
        object.__setattr__(self, "loras", tuple(self.loras))
        self.lora_strengths()

    def seeds(self) -> tuple[int, ...]:
        """Return the seed of each picture of the batch: (seed + i) mod 2^53."""
        return tuple((self.seed + i) % SEED_LIMIT for i in range(self.count))

    def lora_strengths(self) -> tuple[tuple[str, float], ...]:
        """Return the name and the strength of each LoRA; raise `InvalidRequest` for a bad one."""
        return tuple(map(_lora, self.loras))

    @property
    def full_prompt(self) -> str:
        """The prompt as it is drawn: the user's words, then what was added.

        A transparent background is asked for around them.
        """
        text = ", ".join(text for text in (self.prompt, self.added) if text)
        if not self.transparent:
            return text
        stop = "" if text.endswith((".", "!", "?", "。", "！", "？")) else "."
        return f"{TRANSPARENT_BEFORE} {text}{stop} {TRANSPARENT_AFTER}"

    @property
    def full_negative_prompt(self) -> str:
        """The negative prompt as it is drawn."""
        own = self.negative_prompt or self.model_negative
        if own.strip() and self.added_negative:
            return f"{own}, {self.added_negative}"
        return self.added_negative or own

    @property
    def wished_away(self) -> bool:
        """Whether the user or the style says what the picture should not show."""
        return bool(self.negative_prompt or self.added_negative)

    @property
    def megapixel_steps(self) -> float:
        """The size of the work: megapixels x steps x pictures.

        At guidance 1 a step is one pass of the model and counts half: there is nothing to be guided
        away from. Where predictions are used again, what is usually computed counts.
        """
        passes = 0.5 if self.guidance == GUIDANCE_MIN else 1.0
        passes *= _COMPUTED if self.reuse else 1.0
        return self.width * self.height / 1e6 * self.steps * self.count * passes

    def with_changes(self, **changes: Any) -> Self:
        """Return a validated copy with some fields replaced."""
        return replace(self, **changes)

    def to_json(self) -> str:
        """Return the versioned JSON that `jobs.request` stores."""
        known = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return json.dumps({**self.extra, "v": REQUEST_VERSION, **known}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote, now or in another version; unknown fields go to `extra`."""
        values: dict[str, Any] = json.loads(text)
        values.pop("v", None)
        names = {f.name for f in fields(cls)} - {"extra"}
        known = {name: values.pop(name) for name in list(values) if name in names}
        return cls(**known, extra=values)
