"""Settings: one class, read from the environment and `.env`; `.env.example` is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError

from bot.catalogue.lora_rules import ALL, checked
from bot.catalogue.models import MODELS, ModelSpec
from bot.config.api_keys import Keys
from bot.config.checks import (
    Gigabytes,
    QualityLevel,
    Share,
    Threshold,
    known_model,
    loopback_only,
    no_real_token_elsewhere,
    nobody_else_without_keys,
    readable_engines,
    user_ids,
)
from bot.config.levels import model_as_set
from bot.config.meant import NOT_UTF8, check_encoding, check_libraries, meant
from bot.config.web_addresses import origins, public_url
from bot.config.wrong import wrong_settings
from bot.errors import ConfigError

_PATHS_AS_TEXT: Final = frozenset({"log_dir"})
_SECRETS: Final = frozenset({"discord_token", "api_keys"})


class Settings(BaseSettings):
    """Everything that can be set, with the names of the environment variables in lower case."""

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
    image_model_name: Annotated[str, AfterValidator(known_model)] = Field(
        "Qwen/Qwen-Image",
        description=f"The model: {', '.join(MODELS)}. docs/models.md compares them.",
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
    image_precision: Literal["int8", "int8-fast", "fp8", "fp8-fast", "bf16"] = Field(
        "fp8",
        description=(
            "Weights in 8-bit integers and arithmetic in bfloat16 (int8), both in 8-bit integers "
            "(int8-fast: faster), the same in FP8 (fp8, fp8-fast: less exact), or all in bfloat16 "
            "(bf16: twice the memory). Each form of weights has a cache of its own."
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
    image_prompt_suffix: bool = Field(
        False,
        description=(
            "Add the words that the model's authors recommend to each prompt, in English or "
            "Chinese; Details shows them."
        ),
    )
    on_restart: Literal["resume", "paused"] = Field(
        "resume",
        description=(
            "What a start does with jobs that wait: resume them, or keep the queue paused until "
            "/admin resume (paused)."
        ),
    )
    limit_open_jobs: Annotated[int, Field(ge=1)] = Field(
        3, description="Jobs that one user may have waiting or running at once."
    )
    limit_images_per_day: Annotated[int, Field(ge=1)] = Field(
        100, description="Pictures that one user may ask for in any 24 hours."
    )
    limit_gpu_seconds_per_day: Annotated[float, Field(ge=0)] = Field(
        7200.0,
        description=(
            "Seconds of the graphics card that one user may ask for in any 24 hours, by what was "
            "measured of earlier pictures; 0 for no limit."
        ),
    )
    limit_dm_images_per_day: Annotated[int, Field(ge=0)] = Field(
        0, description="The same pictures outside of servers; 0 for no limit of its own."
    )
    limit_dm_gpu_seconds_per_day: Annotated[float, Field(ge=0)] = Field(
        0.0, description="The same seconds outside of servers; 0 for no limit of its own."
    )
    limit_server_images_per_day: Annotated[int, Field(ge=0)] = Field(
        0,
        description=(
            "Pictures that all members of one server together may ask for in any 24 hours; 0 for "
            "no limit."
        ),
    )
    limit_server_gpu_seconds_per_day: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description=(
            "Seconds of the graphics card that all members of one server together may ask for in "
            "any 24 hours; 0 for no limit."
        ),
    )
    limit_key_open_jobs: Annotated[int, Field(ge=1)] = Field(
        32,
        description=(
            "Jobs that one API key may have waiting or running at once. Keys have these three "
            "limits instead of a user's."
        ),
    )
    limit_key_images_per_day: Annotated[int, Field(ge=0)] = Field(
        1000,
        description="Pictures that one API key may ask for in any 24 hours; 0 for no limit.",
    )
    limit_key_gpu_seconds_per_day: Annotated[float, Field(ge=0)] = Field(
        0.0,
        description=(
            "Seconds of the graphics card that one API key may ask for in any 24 hours; 0 for no "
            "limit."
        ),
    )
    limit_cooldown_seconds: Annotated[float, Field(ge=0)] = Field(
        0.0, description="Seconds that a user waits between two requests."
    )
    limit_queue_size: Annotated[int, Field(ge=1)] = Field(
        500, description="Jobs that may wait in all, from everyone together."
    )
    limit_server_queue_size: Annotated[int, Field(ge=0)] = Field(
        250, description="Jobs that may wait from one server; 0 for no limit of its own."
    )
    retention_days: Annotated[int, Field(ge=0)] = Field(
        0, description="Days that pictures and prompts are kept; 0 keeps them."
    )
    api_keys: Annotated[InstanceOf[Keys] | None, NoDecode] = Field(
        None,
        description=(
            "Turns the HTTP API on: name:key, several separated by commas (docs/http.md); none "
            "serves anyone, on this machine alone."
        ),
    )
    http_host: str = Field(
        "127.0.0.1", description="Address that the HTTP API listens at; 0.0.0.0 is every one."
    )
    http_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        8000, description="Port of the HTTP API."
    )
    http_wait_seconds: Annotated[float, Field(gt=0)] = Field(
        300.0,
        description=(
            "Seconds that an HTTP request waits for its picture; after that it is answered with "
            "the job's id."
        ),
    )
    http_public_url: Annotated[str | None, AfterValidator(public_url)] = Field(
        None,
        description=(
            "The HTTP API's address from outside, behind a proxy: https://example.org, or with the "
            "path that the proxy takes off. Links begin with it; else with the request's Host."
        ),
    )
    http_origins: Annotated[frozenset[str], NoDecode, BeforeValidator(origins)] = Field(
        frozenset(),
        description=(
            "Origins whose web pages may use the HTTP API with a key, separated by commas: "
            "https://app.example.org; * is any."
        ),
    )
    image_check: bool = Field(
        False,
        description=(
            "Check finished pictures for nudity on the CPU (pip install -r "
            "requirements-moderation.txt); what happens to flagged ones: /admin moderation policy."
        ),
    )
    image_check_threshold: Annotated[float, Field(ge=0, le=1)] = Field(
        0.8, description="The score, from 0 to 1, from which a picture counts as flagged."
    )
    log_prompts: bool = Field(
        False, description="Write the prompts of accepted requests to the log."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="How much is logged."
    )
    log_dir: str = Field(
        "logs",
        description=(
            "Folder of ai-server.log: one JSON line an event, turned at 10 MiB, five older ones "
            "are kept; - writes none."
        ),
    )
    owner_ids: Annotated[frozenset[int], NoDecode, BeforeValidator(user_ids)] = Field(
        frozenset(),
        description=(
            "Discord user ids, separated by commas, that may use every /admin command anywhere; "
            "the application's owner always may."
        ),
    )

    @field_validator("*")
    @classmethod
    def _meant_as_a_path(cls, value: Any, info: ValidationInfo) -> Any:
        path = isinstance(value, Path) or info.field_name in _PATHS_AS_TEXT
        return meant(value) if path else value

    @field_validator("api_keys", mode="before")
    @classmethod
    def _read_keys(cls, value: Any) -> Any:
        # Only hashes are kept from here on.
        return Keys.parse(value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _together(self) -> Self:
        no_real_token_elsewhere(self.discord_token, self.discord_api_url)
        nobody_else_without_keys(self.api_keys, self.http_host, self.http_origins)
        return self

    @property
    def model(self) -> ModelSpec:
        """The model, with the quality levels as they are set and what its engine can do."""
        return model_as_set(self)

    @property
    def local_engines(self) -> int | None:
        """How many engines this machine runs; None is one a graphics card."""
        count = self.engines.partition(":")[2]
        return int(count) if count else None

    @property
    def log_folder(self) -> Path | None:
        """The folder of the log file, or None for none."""
        return None if self.log_dir == "-" else Path(self.log_dir)

    @property
    def database_path(self) -> Path:
        """The SQLite file."""
        return self.data_dir / "bot.sqlite3"

    @property
    def images_dir(self) -> Path:
        """The folder of the finished pictures."""
        return self.data_dir / "images"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings; raise `ConfigError` with a sentence that shows no secret.

    `WrongSettings` is the one that names settings.
    """
    file = overrides.get("_env_file", ".env") and Path(overrides.get("_env_file", ".env"))
    if file is not None:
        check_encoding(file)
    check_libraries()
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise wrong_settings(error, file, given=overrides.keys(), secrets=_SECRETS) from None
    except UnicodeDecodeError:
        raise ConfigError(NOT_UTF8) from None
    except (OSError, SettingsError):
        raise ConfigError("The file .env cannot be read.") from None
