"""The schemas of texts that are written: prompts rewritten, pictures described."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bot.domain.request import REFERENCES_MAX
from bot.http.schemas import ModelName, Prompt, Usage


class EnhanceBody(BaseModel):
    """A prompt to be rewritten."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"prompt": 'a shop with a sign "OPEN"'}]},
    )

    prompt: Prompt
    model: ModelName | None = Field(
        None,
        description="The model that writes, where it can; else the first offered one that can.",
    )
    references: Annotated[list[str], Field(max_length=REFERENCES_MAX)] = Field(
        [],
        description=(
            "Pictures that the prompt, then an instruction to edit, speaks of, as base64 or data "
            "URLs; the model sees them."
        ),
    )


class Enhanced(BaseModel):
    """The prompt to draw: rewritten, or as it was sent."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompt": 'A small shop at dusk, over its door a wooden sign "OPEN" …',
                    "rewritten": True,
                    "reason": None,
                    "model": "Qwen/Qwen-Image",
                    "usage": {"gpu_seconds": 4.2},
                }
            ]
        }
    )

    prompt: str
    rewritten: bool
    reason: (
        Literal["empty", "length", "quotes", "numbers", "language", "sense", "rules", "unavailable"]
        | None
    ) = Field(description="Why it was not rewritten; null where it was.")
    model: str
    usage: Usage


class DescribeBody(BaseModel):
    """A picture to be described."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(
        description=(
            "The picture, as base64 or a data URL: PNG, JPEG, WebP or GIF, at most 25 MiB and 50 "
            "megapixels."
        )
    )
    language: Literal["en", "zh"] = Field("en", description="The language of `content`.")
    model: ModelName | None = Field(
        None,
        description="The model that writes, where it can; else the first offered one that can.",
    )


class DescribeForm(DescribeBody):
    """The same as a form's fields; its file is the picture."""

    model_config = ConfigDict(extra="forbid", strict=False)
    image: str = ""


class Described(BaseModel):
    """What is in a picture."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "content": "A red lighthouse on a cliff at night, under a full moon.",
                    "prompt": "A red lighthouse on a cliff, night, full moon …",
                    "prompt_zh": "悬崖上的红色灯塔，夜晚，满月……",
                    "parameters": None,
                    "model": "Qwen/Qwen-Image",
                    "usage": {"gpu_seconds": 6.1},
                }
            ]
        }
    )

    content: str
    prompt: str = Field(description="A prompt in English; empty where the model wrote none.")
    prompt_zh: str = Field(description="A prompt in Chinese; empty where the model wrote none.")
    parameters: str | None = Field(
        description="What the picture's file says about how it was made; null for nothing."
    )
    model: str
    usage: Usage
