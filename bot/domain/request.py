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

from bot.domain.writing import EXPECTED_TOKENS, Writing
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
REFERENCES_MAX: Final = 10
"""The most pictures that an edit may refer to; each model says how many it takes."""
# Of a step's time without references the shares of what grows with the number of tokens, and of
# attention, which grows with its square (docs/performance.md, a block at 1344x768).
_BY_TOKENS, _BY_SQUARE = 0.8, 0.2
_REFERENCE_MEGAPIXELS: Final = 1024 * 1024 / 1e6
"""The area in which a reference goes through the model, whatever its size."""
_LEAST_MEGAPIXELS: Final = 256 * 256 / 1e6
"""The least of a model that sees references in the area of the picture which is drawn."""
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
    With `references` it is an edit: the prompt is the instruction, and strength is not used.
    `references`, `mask` and `input_image` are names of files of this job's; a job with references
    and a mask has its first reference as its input, too. `parent` is the job that this was made
    from.
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
    references: tuple[str, ...] = ()
    """The pictures that an edit refers to, in order: the prompt names them by number from 1."""
    references_once: bool = False
    """Whether the model goes through them once for all steps, which its work is counted by."""
    mask: str | None = None
    """A picture of what of the input is redrawn; what is white in it, or opaque."""
    mask_inverted: bool = False
    """Whether the transparent parts of the mask are redrawn instead, as in OpenAI's edits."""
    place: tuple[int, int, int, int] | None = None
    """Where the input stays as it is while the picture goes on around it (left, top, width, height
    in pixels); None: it fills the picture."""
    flags: str = ""
    """Midjourney's flags that were read in the prompt and taken out of it, for Details."""
    enhance: bool = False
    """Whether the language model rewrites the prompt before it is drawn."""
    rewritten: str = ""
    """What is drawn in place of the prompt: what the language model made of it."""
    unrewritten: str = ""
    """Why the prompt is drawn as it is all the same (`bot.jobs.rewriting.Reason`)."""
    writes: str = ""
    """What is written instead of a picture, a `Writing`; "" draws."""
    written_with: str | None = None
    """The model that rewrites the prompt of a picture, which whoever asked may use; None in
    requests of earlier versions: the one that draws, or else the first that can."""
    draws_with: str | None = None
    """The model that is to draw a prompt which is only rewritten first; None: the configured."""
    parameters: str = ""
    """What the file of a picture that is described says about how it was made."""
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
        rewritten = _clean_text(self.rewritten, mark("prompt"), PROMPT_LIMIT)
        object.__setattr__(self, "rewritten", rewritten)
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
        object.__setattr__(self, "references", tuple(self.references))
        if self.writes:
            Writing(self.writes)  # `ValueError`: another version's, which this one cannot do.
        self.lora_strengths()
        self._check_inputs()

    def _check_inputs(self) -> None:
        if len(self.references) > REFERENCES_MAX:
            raise InvalidRequest(
                _("An edit takes at most {high} pictures; {count} came.").format(
                    high=REFERENCES_MAX, count=len(self.references)
                )
            )
        if self.mask is not None and self.input_image is None:
            raise InvalidRequest(_("Add the picture under the mask to use a mask."))
        if self.place is None:
            return
        object.__setattr__(self, "place", tuple(self.place))
        if self.mask is not None:
            raise InvalidRequest(
                _("A picture is either enlarged or redrawn under a mask, not both.")
            )
        if self.strength not in {None, 1.0}:
            raise InvalidRequest(
                _("Strength has no effect when a picture is extended; please leave it out.")
            )
        left, top, width, height = self.place
        inside = 0 <= left <= self.width - width and 0 <= top <= self.height - height
        if not inside or min(width, height) < 1 or (width, height) == (self.width, self.height):
            raise InvalidRequest(
                _("The picture must fit inside the larger one and leave room to draw.")
            )

    def seeds(self) -> tuple[int, ...]:
        """Return the seed of each picture of the batch: (seed + i) mod 2^53."""
        return tuple((self.seed + i) % SEED_LIMIT for i in range(self.count))

    def lora_strengths(self) -> tuple[tuple[str, float], ...]:
        """Return the name and the strength of each LoRA; raise `InvalidRequest` for a bad one."""
        return tuple(map(_lora, self.loras))

    @property
    def full_prompt(self) -> str:
        """The prompt as it is drawn: the user's words, rewritten or not, then what was added.

        A transparent background is asked for around them.
        """
        text = ", ".join(text for text in (self.rewritten or self.prompt, self.added) if text)
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
    def pictures(self) -> int:
        """How many pictures are drawn: none where a text is written."""
        return 0 if self.writes else self.count

    @property
    def rewriting(self) -> bool:
        """Whether the prompt is still to be rewritten before it is drawn."""
        return self.enhance and not (self.writes or self.rewritten or self.unrewritten)

    @property
    def tokens(self) -> float:
        """How long what is to be written is expected to be, in tokens; 0 where nothing is."""
        if self.rewriting:
            return EXPECTED_TOKENS[Writing.ENHANCE]
        return EXPECTED_TOKENS[Writing(self.writes)] if self.writes else 0.0

    @property
    def megapixel_steps(self) -> float:
        """The size of the work: megapixels x steps x pictures; 0 where a text is written.

        References count by the formulas of docs/limits.md (`_with_references`). At guidance 1 a
        step is one pass of the model and counts half: there is nothing to be guided away from.
        Where predictions are used again, what is usually computed counts.
        """
        if self.writes:
            return 0.0
        passes = 0.5 if self.guidance == GUIDANCE_MIN else 1.0
        own = self.width * self.height / 1e6
        step, once = _with_references(own, len(self.references), once=self.references_once)
        computed = _COMPUTED if self.reuse else 1.0
        return (step * self.steps * self.count * computed + once) * passes

    def without_inputs(self) -> Self:
        """Return the request without any of its job's files, for a job that has others or none."""
        return replace(
            self, input_image=None, references=(), mask=None, mask_inverted=False, place=None
        )

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


def _with_references(own: float, count: int, *, once: bool) -> tuple[float, float]:
    """Return what a step counts, and all steps together besides, in megapixels.

    `own` (A) are those drawn, R those of `count` references. Of a block's time a part grows with
    the tokens, 0.8 of each, and attention with the tokens that look times those looked at, 0.2.
    Where references go through every step beside the picture, all look at all: a step counts
    A + R (0.8 + 0.2 (2A + R)). Where they go through the model once, they count R (0.8 + 0.2 R)
    for all steps and pictures, and in a step only the picture looks at them: A + 0.2 A R.
    """
    if not once:
        shown = count * _REFERENCE_MEGAPIXELS
        return own + shown * (_BY_TOKENS + _BY_SQUARE * (2 * own + shown)), 0.0
    shown = count * max(own, _LEAST_MEGAPIXELS)  # in the area of the picture that is drawn
    return own + _BY_SQUARE * own * shown, shown * (_BY_TOKENS + _BY_SQUARE * shown)


def secrets_of(request: ImageRequest) -> tuple[str, ...]:
    """Return all that was typed, and what was made of it: texts that no log may have."""
    return request.prompt, request.negative_prompt, request.rewritten, request.parameters
