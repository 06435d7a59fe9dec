"""Settings: one class, read from the environment and `.env`; `.env.example` is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    InstanceOf,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode, SettingsError

from bot.catalogue.models import ModelSpec
from bot.config.api_keys import Keys
from bot.config.checks import (
    no_real_token_elsewhere,
    nobody_else_without_keys,
    user_ids,
)
from bot.config.drawing_settings import DrawingSettings
from bot.config.key_limits import KeyLimitValues, key_limits, of_known_keys
from bot.config.levels import model_as_set
from bot.config.meant import NOT_UTF8, check_encoding, check_libraries, meant
from bot.config.web_addresses import origins, public_url
from bot.config.wrong import wrong_settings
from bot.errors import ConfigError

_PATHS_AS_TEXT: Final = frozenset({"log_dir"})
_SECRETS: Final = frozenset({"discord_token", "api_keys"})


class Settings(DrawingSettings):
    """Everything that can be set, with the names of the environment variables in lower case."""

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
            "limits instead of a user's; API_KEYS=none has none of them."
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
    backup_every_hours: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        24.0,
        description=(
            "Hours from one copy of the database to the next, which the bot makes by itself "
            "(docs/backup.md); 0 makes none."
        ),
    )
    backup_keep: Annotated[int, Field(ge=1)] = Field(
        7, description="How many of these copies are kept; those made by hand stay."
    )
    backup_dir: Path | None = Field(
        None,
        description=(
            "Folder of the copies; DATA_DIR/backups where it is not set. One on another disk "
            "outlives this one."
        ),
    )
    backup_images: bool = Field(False, description="Copy the pictures too, each time all of them.")
    api_keys: Annotated[InstanceOf[Keys] | None, NoDecode] = Field(
        None,
        description=(
            "Turns the HTTP API on: name:key, several separated by commas (docs/http.md); none "
            "serves anyone, on this machine alone."
        ),
    )
    api_key_limits: Annotated[KeyLimitValues, NoDecode, BeforeValidator(key_limits)] = Field(
        {},
        description=(
            "Limits of single keys instead of LIMIT_KEY_…: name:jobs=8,images=50,seconds=600, "
            "several keys separated by spaces; 0 for no limit."
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
        of_known_keys(self.api_key_limits, self.api_keys)
        nobody_else_without_keys(self.api_keys, self.http_host, self.http_origins)
        return self

    @property
    def model(self) -> ModelSpec:
        """The default model, with the quality levels as set and what its engine can do."""
        return model_as_set(self, self.image_model_name)

    @property
    def models(self) -> tuple[ModelSpec, ...]:
        """The models that users may choose from, likewise; the default one is the first."""
        names = dict.fromkeys((self.image_model_name, *self.image_models))
        return tuple(model_as_set(self, name) for name in names)

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

    @property
    def backups_dir(self) -> Path:
        """The folder of the backups."""
        return self.backup_dir or self.data_dir / "backups"


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
