"""The schemas of the endpoints under `/v1`, which are OpenAI's as far as they have a meaning here.

https://platform.openai.com/docs/api-reference/images
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from bot.domain.request import COUNT_MAX
from bot.http.schemas import (
    Guidance,
    LoraName,
    LoraStrength,
    NegativePrompt,
    Prompt,
    Seed,
    Steps,
    Strength,
    Usage,
)


class OpenAIBody(BaseModel):
    """OpenAI's request; a field that neither OpenAI nor this server has is refused, as there."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "model": "Qwen/Qwen-Image",
                    "prompt": "A bilingual sign showing 'Hello 你好' in neon lights",
                    "n": 1,
                    "size": "1328x1328",
                    "response_format": "b64_json",
                }
            ]
        },
    )

    prompt: Prompt
    model: str | None = Field(
        None,
        description=(
            "A name of `GET /v1/models`, in full or what stands after its slash. OpenAI's own "
            "names mean the first of them, and where there is one, any name does. Without "
            "response_format the name says which answer is expected: gpt-image-… base64, dall-e-… "
            "links, any other both."
        ),
    )
    n: Annotated[int, Field(ge=1, le=COUNT_MAX)] | None = None
    size: str | None = Field(None, description="auto, or WIDTHxHEIGHT in multiples of 16.")
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = None
    response_format: Literal["url", "b64_json"] | None = Field(
        None, description="url: a link that opens without the key for an hour."
    )
    output_format: Literal["png", "jpeg", "webp"] | None = Field(
        None, description="The files that come as base64; png if left out. Links open PNGs."
    )
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(
        None, description="The quality of jpeg and webp, 100 if left out."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        None,
        description="transparent: where the model can, as png or webp; opaque if left out.",
    )
    stream: bool | None = Field(
        None,
        description="true: server-sent events, with the unfinished pictures that were asked for.",
    )
    # What changes nothing of a picture here, and is sent by OpenAI's clients.
    moderation: Literal["auto", "low"] | None = Field(None, description="Has no effect.")
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = Field(
        None, description="With `stream`: how many unfinished pictures come at most; 0 if left out."
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="Has no effect.")
    user: str | None = Field(None, description="Has no effect.")
    # Not OpenAI's: its clients send them by `extra_body`.
    negative_prompt: NegativePrompt | None = None
    num_inference_steps: Steps | None = Field(None, description="Instead of those of the quality.")
    guidance_scale: Guidance | None = Field(None, description="Instead of that of the quality.")
    seed: Seed | None = Field(None, description="The same seed draws the same picture.")
    lora: LoraName | None = Field(None, description="A name of GET /api/v1/loras.")
    lora_strength: LoraStrength | None = None


class OpenAIEdit(OpenAIBody):
    """The fields of OpenAI's form that come beside its picture."""

    input_fidelity: Literal["low", "high"] | None = Field(
        None, description="high is what pictures are always read with; low is refused."
    )
    style: Literal["vivid", "natural"] | None = Field(None, description="Refused: no edit has it.")
    strength: Strength | None = Field(
        None,
        description="Not OpenAI's: with it one picture is drawn over, so far, instead of edited.",
    )


class OpenAIPicture(BaseModel):
    """One picture, as a link, as base64 of its file, or both."""

    url: str | None = None
    b64_json: str | None = None


class OpenAIUsage(Usage):
    """What a job took. Tokens, which strict clients read, are none: nothing is counted in them."""

    input_tokens: Literal[0] = 0
    input_tokens_details: dict[str, int] = Field(
        default_factory=lambda: {"image_tokens": 0, "text_tokens": 0}
    )
    output_tokens: Literal[0] = 0
    total_tokens: Literal[0] = 0


class OpenAIAnswer(BaseModel):
    """OpenAI's answer, and the seed, which is not OpenAI's: picture i has the seed plus i."""

    created: int
    data: list[OpenAIPicture]
    background: Literal["opaque", "transparent"]
    output_format: Literal["png", "jpeg", "webp"]
    size: str
    quality: Literal["low", "medium", "high"]
    seed: int
    usage: OpenAIUsage


class OpenAIModel(BaseModel):
    """A model as OpenAI describes one."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """The models that may be asked for; the first is the default."""

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIError(BaseModel):
    """What OpenAI's clients read of an error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIRefusal(BaseModel):
    """OpenAI's error."""

    error: OpenAIError
