"""The models that the bot can draw with: names, picture sizes, quality levels, published files.

One row per model, no torch import: the Discord side reads the sizes from here, the engine child
decides from `family` which pipeline to build, and whoever looks for files or judges a machine
reads what there must be from `published`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from bot.errors import ConfigError

TOKENIZER: Final = "tokenizer"
"""What `Published.tokenizer_files` are, beside the `part` of a network."""
BALANCED: Final = "balanced"
"""The quality whose steps are spared where the prediction hardly changes."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Denoising steps and guidance (`cfg_scale`) of one quality level.

    Above a `reuse` of 0, the threshold of bot/engine/stream/reuse.py, some steps use the last
    prediction again.
    """

    steps: int
    guidance: float
    reuse: float = 0.0


@dataclass(frozen=True, slots=True)
class Network:
    """The weights of one network: `folder/stem.safetensors`, numbered parts of it if `sharded`.

    `part` is its name while it is loaded (a key of `bot.engine.files.stages.LOADING`).
    """

    part: str
    folder: str
    stem: str
    sharded: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """What is needed of a model's repository, and what it asks of a machine.

    The repository has the model's name, at Hugging Face and at ModelScope. `tokenizer_files` are
    the small ones without which no prompt can be read. `cache_bytes` is what the engine writes
    beside the files, `vram_gib` the least memory budget, `ram_gib` the main memory that is wanted.
    """

    networks: tuple[Network, ...]
    tokenizer_files: tuple[str, ...]
    download_bytes: int
    cache_bytes: int
    vram_gib: float
    ram_gib: float
    licence: str
    commercial: bool = True
    """Whether the licence allows commercial use."""
    shared_bytes: int = 0
    """Of `download_bytes`: text encoder, tokenizer and VAE, where models have these in common."""
    shared_cache_bytes: int = 0
    """Of `cache_bytes` likewise."""

    def patterns_without(self, parts: Collection[str] = ()) -> tuple[str, ...]:
        """Return shell patterns of the files to download, without those of `parts`.

        These are networks' or `TOKENIZER`.
        """
        weights = (
            f"{net.folder}/{pattern}"
            for net in self.networks
            if net.part not in parts
            for pattern in (f"{net.stem}*.safetensors*", "*.json")
        )
        words = () if TOKENIZER in parts else self.tokenizer_files
        tokenizers = (f"{name.split('/', maxsplit=1)[0]}/*" for name in words)
        return tuple(dict.fromkeys((*weights, *tokenizers)))


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the rest of the bot has to know of a model.

    `sizes` maps an aspect name to (width, height) in pixels; the first entry is the default.
    """

    name: str
    family: str
    sizes: Mapping[str, tuple[int, int]]
    qualities: Mapping[str, Quality]
    largest_side: int
    """The most pixels on a side that *Upscale* enlarges a picture to."""
    default_quality: str = "standard"
    published: Published | None = None
    """None: the model is part of the bot."""
    base: str | None = None
    """The model whose text encoder, tokenizer and VAE are this one's too, to the byte.

    Whichever is there first has their files and their weights cache, and the others use them.
    """
    largest_asked: int = 2048
    """The most pixels on a side that may be asked for by number.

    More than `largest_side` for the tiny model alone: what was written for a large model has to
    work with it, though its pictures gain nothing.
    """

    streamed: bool = False
    """Whether this bot's own engine draws it: LoRAs, previews, weights cache, streamed blocks.

    So it is where the family has a streamed module (bot/engine/models/families.py).
    """
    negative: str = ""
    """The negative prompt that its authors draw with where nobody names one."""
    cfg_norm: bool = False
    """Whether guidance keeps the norm of the conditional prediction; streamed models alone can.

    See bot/engine/stream/guidance.py.
    """
    alpha: bool = False
    """Whether it draws pictures with a transparent background: its VAE has a fourth channel."""
    references: int = 0
    """The most pictures that an instruction may speak of; 0: it does not edit by words."""
    references_once: bool = False
    """Whether it goes through references once for all steps: their keys and values are kept."""
    draws: bool = True
    """Whether it is meant to draw from words alone; else it was trained to edit."""
    zero_cond_t: bool = False
    """Whether its transformer sees references as at timestep 0 (`DoubleStream`).

    Its published `transformer/config.json` says so, and nothing else tells its files from others.
    """
    noise_levels: tuple[float, ...] = ()
    """The noise levels that a distilled model was trained on: its steps, no more and no fewer."""

    def levels_of(self, strength: float) -> tuple[float, ...]:
        """Return the noise levels that redraw `strength` (0 to 1) of a picture; () where free.

        The last ones, one at least: so diffusers begins where levels are given.
        """
        count = len(self.noise_levels)
        return self.noise_levels[min(int(count - count * strength), count - 1) :] if count else ()

    @property
    def built_in(self) -> bool:
        """Whether it is part of the bot: nothing to download, and no graphics card needed."""
        return self.published is None

    @property
    def default_aspect(self) -> str:
        """The aspect used when the user names none."""
        return next(iter(self.sizes))


# Qwen-Image's training resolutions (model card of Qwen/Qwen-Image), after the 1344x768 that the
# server this project came from used as its default.
_QWEN_SIZES: Final = {
    "7:4": (1344, 768),
    "1:1": (1328, 1328),
    "16:9": (1664, 928),
    "9:16": (928, 1664),
    "4:3": (1472, 1104),
    "3:4": (1104, 1472),
    "3:2": (1584, 1056),
    "2:3": (1056, 1584),
}

# The tiny model draws 256x256 and at most 384 on a side; near ratios share a size.
_TINY_SIZES: Final = {
    "1:1": (256, 256),
    "7:4": (384, 256),
    "16:9": (384, 256),
    "9:16": (256, 384),
    "4:3": (336, 256),
    "3:4": (256, 336),
    "3:2": (384, 256),
    "2:3": (256, 384),
}

# Half of the sizes that Qwen-Image-2.1's model card lists (2048x2048, 2752x1536, ...), which is the
# size that DiffSynth-Studio draws without being asked; sides are multiples of 32.
_QWEN_21_SIZES: Final = {
    "7:4": (1344, 768),
    "1:1": (1024, 1024),
    "16:9": (1376, 768),
    "9:16": (768, 1376),
    "4:3": (1184, 896),
    "3:4": (896, 1184),
    "3:2": (1248, 832),
    "2:3": (832, 1248),
}

# Of SDXL's training resolutions (Podell et al. 2023, arXiv:2307.01952, appendix I), the nearest.
_SDXL_SIZES: Final = {
    "1:1": (1024, 1024),
    "7:4": (1344, 768),
    "16:9": (1344, 768),
    "9:16": (768, 1344),
    "4:3": (1152, 896),
    "3:4": (896, 1152),
    "3:2": (1216, 832),
    "2:3": (832, 1216),
}

_APACHE: Final = "Apache-2.0"
# A transformer of 20.4 B parameters and a text encoder of 8.3 B in bfloat16, a VAE of a quarter of
# a GB: the sum of the files as the hub lists them. Beside them: FP8 weights of 27 GB, in bfloat16
# the embedding table and the language head (1.1 GB each) and the vision tower (1.4 GB), and
# compiled code.
_QWEN_FILES: Final = Published(
    networks=(
        Network("transformer", "transformer", "diffusion_pytorch_model", sharded=True),
        Network("text encoder", "text_encoder", "model", sharded=True),
        Network("VAE", "vae", "diffusion_pytorch_model"),
    ),
    tokenizer_files=(
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json",
    ),
    download_bytes=57_700_000_000,
    cache_bytes=35_000_000_000,
    shared_bytes=16_800_000_000,
    shared_cache_bytes=11_000_000_000,  # 7 GB in eight bits, and the 3.6 GB in bfloat16
    vram_gib=4.0,
    ram_gib=29.0,  # 32 GB, less what firmware and graphics take of it
    licence=_APACHE,
)
# 7.1 B parameters and the 8.8 B of Qwen3-VL-8B in bfloat16, and a VAE of 0.34 B (the repository's
# discussion 32 counts them). Beside them: FP8 weights of 14 GB, in bfloat16 the embedding table and
# the language head (1.2 GB each) and the vision tower (1.2 GB), and compiled code.
_QWEN_21_FILES: Final = Published(
    networks=(
        Network("transformer", "transformer", "diffusion_pytorch_model", sharded=True),
        Network("text encoder", "text_encoder", "model", sharded=True),
        Network("VAE", "vae", "diffusion_pytorch_model"),
    ),
    tokenizer_files=("processor/vocab.json", "processor/merges.txt"),
    download_bytes=33_000_000_000,
    cache_bytes=21_000_000_000,
    vram_gib=4.0,
    # The engine's process held 13.9 GiB at most, at the least budget; 3 more for bot and system, as
    # Qwen-Image's has for its 26.0. With budgets of 8 and 14 GiB it held 11.1 and 9.1: 16 GB do.
    ram_gib=18.1,  # with 1.1 for the vision tower, which came later
    licence="Qwen Research License (no commercial use)",
    commercial=False,
)
# The 16-bit variant: U-Net 5.14 GB, text encoders 0.25 and 1.39 GB, VAE 0.17 GB.
_SDXL_FILES: Final = Published(
    networks=(
        Network("U-Net", "unet", "diffusion_pytorch_model.fp16"),
        Network("text encoder", "text_encoder", "model.fp16"),
        Network("second text encoder", "text_encoder_2", "model.fp16"),
        Network("VAE", "vae", "diffusion_pytorch_model.fp16"),
    ),
    tokenizer_files=tuple(
        f"{folder}/{name}"
        for folder in ("tokenizer", "tokenizer_2")
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json")
    ),
    download_bytes=6_940_000_000,
    cache_bytes=0,
    vram_gib=4.0,
    ram_gib=14.5,
    licence="CreativeML Open RAIL++-M",
)

# As their model cards draw their examples, at a `true_cfg_scale` of 4 in diffusers' pipeline, which
# keeps the norm of the conditional prediction.
_QWEN_NEGATIVE: Final = " "
_QWEN_2512_NEGATIVE: Final = (
    "低分辨率，低画质，肢体畸形，手指畸形，画面过饱和，蜡像感，人脸无细节，过度光滑，"
    "画面具有AI感。构图混乱。文字模糊，扭曲。"
)

# docs/models.md has what they take.
_21_REFERENCES: Final = 10
_QWEN_QUALITIES: Final = {
    "fast": Quality(20, 4.0),
    BALANCED: Quality(40, 4.0, 0.1),
    "standard": Quality(40, 4.0),
    "high": Quality(50, 4.0),
}

_TURBO_LEVELS: Final = (1.0, 0.978453, 0.95418, 0.926626, 0.89508, 0.845148, 0.704534, 0.414568)

_TINY: Final = ModelSpec(
    "tiny",
    "tiny",
    _TINY_SIZES,
    {
        "fast": Quality(6, 4.0),
        # Of fewer steps each changes more: measured (docs/models.md).
        BALANCED: Quality(10, 4.0, 0.3),
        "standard": Quality(10, 4.0),
        "high": Quality(16, 4.0),
    },
    512,
    streamed=True,
)

_QWEN_IMAGE: Final = ModelSpec(
    "Qwen/Qwen-Image",
    "qwen-image",
    _QWEN_SIZES,
    _QWEN_QUALITIES,
    2048,
    published=_QWEN_FILES,
    streamed=True,
    negative=_QWEN_NEGATIVE,
    cfg_norm=True,
)
# Trained further to edit. 40 steps, a guidance of 4 and a space as negative prompt are those of
# their model cards, up to three pictures what they were taught with.
_QWEN_EDIT: Final = replace(
    _QWEN_IMAGE,
    # The vision tower waits in main memory too: 676,550,144 numbers in bfloat16, 1.26 GiB.
    published=replace(_QWEN_FILES, ram_gib=_QWEN_FILES.ram_gib + 1.3),
    base="Qwen/Qwen-Image",
    references=3,
    draws=False,
)

# 40 steps without guidance (https://github.com/QwenLM/Qwen-Image-2.1, "Default Parameters"; the
# page of QwenImage21Pipeline in diffusers' documentation).
_QWEN_21: Final = ModelSpec(
    "Qwen/Qwen-Image-2.1",
    "qwen-image-21",
    _QWEN_21_SIZES,
    {"fast": Quality(20, 1.0), "standard": Quality(40, 1.0), "high": Quality(50, 1.0)},
    2048,
    published=_QWEN_21_FILES,
    streamed=True,
    alpha=True,
    references=_21_REFERENCES,
    references_once=True,
)

MODELS: Final[Mapping[str, ModelSpec]] = {
    spec.name: spec
    for spec in (
        _QWEN_IMAGE,
        # The same networks, trained further: the same sizes and settings.
        replace(_QWEN_IMAGE, name="Qwen/Qwen-Image-2512", negative=_QWEN_2512_NEGATIVE),
        replace(_QWEN_EDIT, name="Qwen/Qwen-Image-Edit-2511", zero_cond_t=True),
        replace(_QWEN_EDIT, name="Qwen/Qwen-Image-Edit-2509"),
        _QWEN_21,
        # Another transformer, distilled for eight steps (`sample_sigmas` of its model_index.json).
        replace(
            _QWEN_21,
            name="Qwen/Qwen-Image-2.1-Turbo",
            qualities={"standard": Quality(len(_TURBO_LEVELS), 1.0)},
            noise_levels=_TURBO_LEVELS,
        ),
        # 40 steps and, in diffusers' pipeline for it, a guidance of 5 (model card of
        # stabilityai/stable-diffusion-xl-base-1.0).
        ModelSpec(
            "stabilityai/stable-diffusion-xl-base-1.0",
            "sdxl",
            _SDXL_SIZES,
            {"fast": Quality(20, 5.0), "standard": Quality(40, 5.0), "high": Quality(50, 5.0)},
            1536,
            published=_SDXL_FILES,
            # What the engine keeps free (bot/engine/models/networks.py) rests on it.
            largest_asked=1536,
        ),
        _TINY,
        # The same networks with a low-rank difference: drawings in ink.
        replace(_TINY, name="tiny-ink"),
        # The same networks again, which look at pictures.
        replace(_TINY, name="tiny-edit", references=3, draws=False, zero_cond_t=True),
    )
}


def find_model(name: str) -> ModelSpec:
    """Return the model called `name`; raise `ConfigError` that lists the right names."""
    try:
        return MODELS[name]
    except KeyError:
        names = ", ".join(MODELS)
        raise ConfigError(f"that is not a known model; choose one of: {names}") from None


def sharing(name: str) -> tuple[str, ...]:
    """Return the other models that have the text encoder, tokenizer and VAE of the one `name`d."""
    root = find_model(name).base or name
    return tuple(
        other for other, spec in MODELS.items() if other != name and root in {other, spec.base}
    )
