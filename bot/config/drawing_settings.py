"""Settings of the bot's account, and of what its engines draw with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bot.catalogue.lora_rules import ALL, checked
from bot.catalogue.models import MODELS
from bot.config.checks import (
    Gigabytes,
    KeptGigabytes,
    QualityLevel,
    Share,
    Threshold,
    known_model,
    known_models,
    loopback_only,
    readable_engines,
)


class AccountSettings(BaseSettings):
    """What the bot logs in with, where to, and where it keeps things."""

    model_config = SettingsConfigDict(
        env_file=".env",
        # With a byte-order mark, which Windows' editors write, the first name would be another.
        env_file_encoding="utf-8-sig",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        # Without this a validation error prints the token, SecretStr or not.
        hide_input_in_errors=True,
    )

    discord_token: SecretStr | None = Field(
        None, description="The bot's token (Discord developer portal, Bot, Reset Token)."
    )
    discord_api_url: Annotated[str | None, AfterValidator(loopback_only)] = Field(
        None,
        description=(
            "Another address of Discord's API, for the sandbox and tests: loopback hosts only, "
            "never together with a real token."
        ),
    )
    data_dir: Path = Field(Path("data"), description="Folder of the database and the pictures.")


class DrawingSettings(AccountSettings):
    """Models and engines."""

    image_model_name: Annotated[str, AfterValidator(known_model)] = Field(
        "Qwen/Qwen-Image",
        description=f"The model: {', '.join(MODELS)}. docs/models.md compares them.",
    )
    image_models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(known_models)] = Field(
        (),
        description=(
            "Models that users may choose from, separated by commas; the one above is among them "
            "and stays the default. Empty is that one alone."
        ),
    )
    image_model_path: Path = Field(
        Path("models/images/qwen-image"),
        description="Folder of the models' files; each is downloaded to OWNER/NAME in it.",
    )
    model_source: Literal["huggingface", "modelscope"] = Field(
        "huggingface",
        description=(
            "Where missing files of the model come from: huggingface (HF_ENDPOINT for a mirror, "
            "HF_TOKEN for a login) or modelscope."
        ),
    )
    image_lora_path: Path = Field(
        Path("models/loras"),
        description="Folder of LoRA files (.safetensors); a file's name without that is its name.",
    )
    image_loras: Annotated[str, AfterValidator(checked)] = Field(
        ALL,
        description=(
            "LoRA files that users may choose: * for all, none, or NAME=FILE:STRENGTH (WORDS), "
            "several separated by commas; all but FILE may be left out (docs/loras.md)."
        ),
    )
    image_gpu_memory_utilization: Share = Field(
        None,
        description=(
            "Share of the card's memory that the engine may use, from 0 to 1; 0.9 where it is not "
            "set."
        ),
        examples=[0.7],
    )
    image_vram_gb: Gigabytes = Field(
        "auto",
        validate_default=True,
        description=(
            "Most GPU memory that the engine takes, in GiB; auto is as much as is free, less a "
            "reserve. The share above counts instead where it is smaller."
        ),
    )
    image_keep_models: KeptGigabytes = Field(
        "auto",
        validate_default=True,
        description=(
            "Most main memory, in GiB, that models take which an engine was switched from; auto is "
            "as much as has room, 0 reads them from the disk at each switch."
        ),
    )
    engines: Annotated[str, AfterValidator(readable_engines)] = Field(
        "local",
        description=(
            "Where pictures are drawn: local is one engine for each graphics card of this machine "
            "(CUDA_VISIBLE_DEVICES limits them), local:2 two engines (docs/scaling.md), ray one "
            "for each of a Ray cluster (docs/ray.md)."
        ),
    )
    engine_confinement: Literal["auto", "required", "off"] = Field(
        "auto",
        description=(
            "Whether an engine's process opens its own files alone and reaches no network: auto as "
            "far as the system can see to that (Linux), required not without it, or off "
            "(docs/security.md)."
        ),
    )
    ray_address: str = Field(
        "", description="For ENGINES=ray: the head node, host:6379; empty is this machine alone."
    )
    image_offload: Literal["stream", "stock"] = Field(
        "stream",
        description=(
            "How weights that exceed the budget reach the card: stream (this bot's own, fast) or "
            "stock (DiffSynth's offloading: minutes a picture, for comparison)."
        ),
    )
    image_precision: Literal["auto", "int8", "int8-fast", "fp8", "fp8-fast", "bf16"] = Field(
        "auto",
        description=(
            "Weights in 8-bit integers and arithmetic in bfloat16 (int8), both in 8-bit integers "
            "(int8-fast: faster), the better of these two by a trial on the card (auto), the same "
            "in FP8 (fp8, fp8-fast: less exact), or all in bfloat16 (bf16: twice the memory). Each "
            "form of weights has a cache of its own."
        ),
    )
    image_cfg_norm: bool = Field(
        True,
        description=(
            "Keep the norm of the conditional prediction under guidance, as Qwen-Image's authors "
            "do; false is stronger in contrast and colour at the same guidance."
        ),
    )
    image_compile: bool = Field(
        True,
        description=(
            "Compile the model's blocks where Triton and a C compiler are installed; the first "
            "start then takes longer, and the first picture with each new rank of LoRA; later ones "
            "use the cache."
        ),
    )
    image_compile_wait_seconds: float = Field(60.0, ge=0, description="Not used any more.")
    image_time_factor: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        10.0,
        description=(
            "How many times as long as it should take, by what was measured, a job may be drawn, "
            "ten minutes at least; after that it counts as a fault of the engine. 0 for no limit."
        ),
    )
    image_idle_unload_minutes: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description=(
            "Minutes without a job after which the model leaves the graphics card and the main "
            "memory, until the next job; 0 keeps it."
        ),
    )
    image_quality_fast: QualityLevel = Field(
        "",
        description=(
            "Steps and guidance of the quality `fast`, such as 20:4.0; else those of a Lightning "
            "file in IMAGE_LORA_PATH, else the model's."
        ),
    )
    image_quality_balanced: QualityLevel = Field(
        "", description="The same for `balanced`, which spares some of its steps."
    )
    image_reuse_threshold: Threshold = Field(
        None,
        description="The change up to which `balanced` uses a prediction again; 0 never.",
        examples=[0.15],
    )
    image_quality_standard: QualityLevel = Field(
        "", description="The same for `standard`, which is the default."
    )
    image_quality_high: QualityLevel = Field("", description="The same for `high`.")
    enhance_instruction: str = Field(
        "",
        description=(
            "Your own instruction for rewriting prompts, in place of the bot's (docs/writing.md); "
            "what users typed stays material, and quoted text stays to the letter."
        ),
    )
    alt_text: Literal["prompt", "written"] = Field(
        "prompt",
        description=(
            "What screen readers say of a picture: its prompt, or a sentence that the model writes "
            "about the picture once it is sent."
        ),
    )
    image_prompt_suffix: bool = Field(
        False,
        description=(
            "Add the words that the model's authors recommend to each prompt, in English or "
            "Chinese; Details shows them."
        ),
    )
