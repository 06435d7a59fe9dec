"""The protocol of an engine, as the GPU worker knows it: requests, events, states, methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol


class EngineState(StrEnum):
    """What an engine is doing."""

    STOPPED = "stopped"
    STARTING = "starting"
    LOADING = "loading"
    IDLE = "idle"
    BUSY = "busy"
    BACKOFF = "backoff"


READY: Final = frozenset({EngineState.IDLE, EngineState.BUSY})
"""The states in which a model is loaded."""
MOST_REFERENCES: Final = 10
"""Pictures that any model takes as references: those of Qwen-Image-2.1."""
MOST_TOKENS: Final = 2048
"""Tokens of a written answer: some 1,500 English words."""
MOST_TEMPERATURE: Final = 2.0


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One batch to draw. Sizes are in pixels; `seeds` has one entry for each picture.

    Picture i is written to `output_dir / f"{i}.png"` with `texts[i]` as its PNG text chunks.
    Raises `ValueError` where `mask`, `place`, `references` and the rest contradict one another.
    """

    job_id: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance: float
    seeds: tuple[int, ...]
    output_dir: Path
    texts: tuple[Mapping[str, str], ...]
    input_image: Path | None = None
    strength: float | None = None
    loras: tuple[tuple[str, float], ...] = ()
    """Names and strengths of the LoRAs to add."""
    shift: float | None = None
    """How far noise levels are moved up, at every size alike; None: by the model's own rule."""
    cfg_norm: bool = False
    """Whether guidance keeps the norm of the conditional prediction."""
    reuse: float = 0.0
    """The relative change up to which a step uses the last prediction again; 0 never does."""
    mask: Path | None = None
    """A picture that says what of the input is redrawn; the rest stays to the bit.

    What is white in it, or opaque where it has transparent parts."""
    mask_inverted: bool = False
    """Whether the transparent parts of the mask are redrawn, as in OpenAI's edits."""
    place: tuple[int, int, int, int] | None = None
    """Where the input stands in the picture, and is left as it is (left, top, width, height in
    pixels): the picture goes on around it (outpainting). None: it fills the picture."""
    references: tuple[Path, ...] = ()
    """Pictures that the prompt, an instruction, speaks of in this order: it is an edit.

    Every picture is drawn after all of them, from noise alone. Where something is to stay as it is,
    `input_image` is the picture that it stays of, and `mask` or `place` says what."""
    transparent: bool = False
    """Whether the pictures have an alpha channel, and keep that of the input; else both are laid on
    white."""
    model: str | None = None
    """The model that draws it; None: the one that the engine was started with."""
    time_limit_s: float | None = None
    """The most seconds that drawing may take, loading and compiling apart; None: no limit."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log may have."""
        return self.prompt, self.negative_prompt

    @property
    def redraws_a_part(self) -> bool:
        """Whether something of the input stays as it is, to the bit."""
        return self.mask is not None or self.place is not None

    def __post_init__(self) -> None:
        if self.redraws_a_part and self.input_image is None:
            raise ValueError("a mask or a place without an input")
        if self.references:
            self._check_references()
        if self.place is None:
            return
        if self.mask is not None:
            raise ValueError("a mask and a place")
        if self.strength not in {None, 1.0}:
            raise ValueError("what is around the input begins from noise alone")
        left, top, width, height = self.place
        inside = 0 <= left <= self.width - width and 0 <= top <= self.height - height
        if not inside or min(width, height) < 1 or (width, height) == (self.width, self.height):
            raise ValueError("the input's place is not a part of the picture")

    def _check_references(self) -> None:
        if len(self.references) > MOST_REFERENCES:
            raise ValueError(f"more than {MOST_REFERENCES} references")
        if self.strength not in {None, 1.0}:
            raise ValueError("references and a strength: an edit begins from noise alone")
        if self.input_image is not None and not self.redraws_a_part:
            raise ValueError("references and an input of which nothing stays")


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """A text to be written by the model's own text encoder, after `system` and `prompt`.

    It speaks of the pictures `references`, which come before `prompt` in this order. The answer has
    at most `max_tokens` tokens, and ends when `seconds` of writing are over (None: no such bound).
    The same `seed` gives the same text at a `temperature` above 0; at 0 the likeliest token is
    taken each time. Raises `ValueError` for numbers and counts out of range.
    """

    job_id: str
    system: str
    prompt: str
    references: tuple[Path, ...] = ()
    max_tokens: int = 400
    temperature: float = 0.0
    seed: int = 0
    seconds: float | None = None
    model: str | None = None
    """The model whose encoder writes; None: the one that the engine was started with."""
    time_limit_s: float | None = None
    """The most seconds that all of it may take, loading apart, or it fails; None: no limit."""

    def __post_init__(self) -> None:
        if len(self.references) > MOST_REFERENCES:
            raise ValueError(f"more than {MOST_REFERENCES} references")
        if not 1 <= self.max_tokens <= MOST_TOKENS:
            raise ValueError(f"not 1 to {MOST_TOKENS} tokens")
        if not 0.0 <= self.temperature <= MOST_TEMPERATURE:
            raise ValueError(f"no temperature of 0 to {MOST_TEMPERATURE:g}")

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log may have."""
        return self.system, self.prompt


Request = EngineRequest | WriteRequest


class Ending(StrEnum):
    """Why a written answer ended."""

    STOPPED = "stopped"
    """The model said that it is complete."""
    TOKENS = "tokens"
    """It had as many tokens as it may have."""
    SECONDS = "seconds"
    """It had taken as long as it may take."""


@dataclass(frozen=True, slots=True)
class Loading:
    """The model is being loaded; `stage` is a short phrase, `fraction` 0 to 1 where known."""

    stage: str
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class CardUse:
    """How a loaded engine uses its card; sizes in bytes.

    `bound` is what bounds the budget (`card_budget.Bound`), and `foreign` what other programs hold
    where that is it. Of the `blocks` of the model `resident` stay on the card. The others are
    fetched from main memory at each step: `pinned` of the `pin_wanted` bytes by the card itself;
    `pin_refused` where the driver gives no more. `uncompiled` says why blocks are not compiled,
    None where they are, or are to be. `precision` is how blocks are computed, as a value of
    IMAGE_PRECISION, None where nobody said.
    """

    budget: int | None
    bound: str
    foreign: int
    blocks: int
    resident: int
    pinned: int
    pin_wanted: int
    pin_refused: bool
    uncompiled: str | None
    precision: str | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is ready. `imports_s` is the time spent importing libraries, within `seconds`."""

    model: str
    device: str
    seconds: float
    imports_s: float = 0.0
    card_use: CardUse | None = None


@dataclass(frozen=True, slots=True)
class Switched:
    """The engine has changed its model within a job, in so many seconds.

    `model` is the one that it holds now; None where the new one could not be loaded, or the job was
    cancelled meanwhile.
    """

    model: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Compiling:
    """Code is compiled that this kind of picture is the first to need; a minute or so."""


@dataclass(frozen=True, slots=True)
class Step:
    """Denoising step `index` (1-based) of `total` is done, over the whole batch."""

    index: int
    total: int


@dataclass(frozen=True, slots=True)
class Preview:
    """A small JPEG of the unfinished result, after `step`; a batch's pictures lie side by side."""

    step: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Picture:
    """Picture `index` of the batch is written to `path` as PNG.

    `sha256` is the hash, in hex, of the file that was checked; None: it was not checked.
    """

    index: int
    path: Path
    seed: int
    width: int
    height: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """More of a written answer: `text` comes behind what was told, and so far it has `tokens`."""

    text: str = field(repr=False)
    tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The batch, or the written answer, is complete.

    `timings` are seconds by stage (encode, denoise, decode, save, total, and switch where the
    engine had another model before; of an answer room, encode, write, back); `peak_gpu_bytes` is
    None on the CPU. `ending` says why an answer ended, None for pictures.
    """

    timings: Mapping[str, float]
    peak_gpu_bytes: int | None = None
    card_use: CardUse | None = None
    ending: Ending | None = None


Event = Loading | Loaded | Switched | Compiling | Step | Preview | Picture | Written | Finished


class Engine(Protocol):
    """Makes pictures and writes texts, one request at a time."""

    @property
    def name(self) -> str:
        """A short name for logs and health pages."""
        ...

    @property
    def state(self) -> EngineState:
        """What the engine is doing now."""
        ...

    async def load(self) -> None:
        """Start the engine and load the model, unless that is done already; `generate` does it too.

        Raises `EngineError` when the model cannot be loaded.
        """
        ...

    def generate(self, request: Request) -> AsyncIterator[Event]:
        """Draw a batch: `Loading`*, `Loaded`?, `Step`, `Preview`, `Picture`, and one `Finished`.

        Where the engine holds another model, `Loading`* and one `Switched` come before the steps.
        `Compiling` comes before the first step where that has to wait for compiled code.
        A step's preview comes right before or after its `Step`. Jobs wait for one another.
        Of a `WriteRequest` there are `Written`* in the place of steps, previews and pictures; what
        cannot be written is an `EngineError` (`REFUSED`).
        Raises `EngineError` when no picture can be made (with `loading` set when the engine's own
        model could not be loaded, or it was closed before; `SWITCH_FAILED` where another could not)
        and `GenerationCancelled` after `cancel`.
        Closing the iterator early stops the engine's work.
        """
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask for the end of the generation of `job_id` at the next step, if it is running."""
        ...

    async def unload(self) -> bool:
        """Free the GPU and the main memory; the next job loads the model again.

        Does nothing and returns False while the engine works; returns True otherwise.
        """
        ...

    async def close(self) -> None:
        """Stop the engine for good and free the GPU. Idempotent.

        The job in hand, and every later one, ends with an `EngineError` of the kind `DIED`.
        """
        ...
