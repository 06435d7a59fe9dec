"""The schemas of what goes in and out, as the OpenAPI page shows them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from bot.catalogue.loras import STRENGTH_MAX
from bot.domain.canvas import FACTOR_MAX, PIXELS_MAX, SIDES
from bot.domain.request import (
    COUNT_MAX,
    GUIDANCE_MAX,
    GUIDANCE_MIN,
    PROMPT_LIMIT,
    REFERENCES_MAX,
    SEED_LIMIT,
    SIZE_MAX,
    SIZE_MIN,
    SIZE_MULTIPLE,
    STEPS_MAX,
)

EXAMPLE: Final[JsonDict] = {
    "prompt": "A beautiful sunset over mountains",
    "num_inference_steps": 40,
    "width": 1344,
    "height": 768,
    "seed": 12345,
}
_GENERATED: Final[JsonDict] = {
    "image_url": "data:image/png;base64,iVBORw0KG...",
    "model": "Qwen/Qwen-Image",
    "width": 1344,
    "height": 768,
    "seed": 12345,
    "num_inference_steps": 40,
    "format": "png",
    "usage": {"gpu_seconds": 21.4},
}
_JOB_ID: Final = "01hqz3v8k2m4n6p8r0"
_JOB: Final[JsonDict] = {
    "id": _JOB_ID,
    "kind": "picture",
    "state": "queued",
    "model": "Qwen/Qwen-Image",
    "width": 1344,
    "height": 768,
    "seed": 12345,
    "num_inference_steps": 40,
    "count": 1,
    "created_at": 1767225600.0,
    "started_at": None,
    "finished_at": None,
    "ahead": 2,
    "starts_at": 1767225640.0,
    "ends_at": 1767225660.0,
    "step": 0,
    "stage": None,
    "error": None,
    "usage": {"gpu_seconds": 0.0},
    "images": [],
    "text": None,
    "revised_prompt": None,
    "status_url": f"/api/v1/jobs/{_JOB_ID}",
    "events_url": f"/api/v1/jobs/{_JOB_ID}/events",
}

Side = Annotated[int, Field(ge=SIZE_MIN, le=SIZE_MAX, multiple_of=SIZE_MULTIPLE)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
LoraName = Annotated[str, Field(min_length=1, max_length=100)]
LoraStrength = Annotated[float, Field(ge=-STRENGTH_MAX, le=STRENGTH_MAX, allow_inf_nan=False)]
Prompt = Annotated[str, Field(min_length=1, max_length=PROMPT_LIMIT)]
NegativePrompt = Annotated[str, Field(max_length=PROMPT_LIMIT)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1, le=STEPS_MAX)]
Guidance = Annotated[float, Field(ge=GUIDANCE_MIN, le=GUIDANCE_MAX, allow_inf_nan=False)]
ALL_SIDES: Final = "all"
OUTPAINT_FACTOR: Final = 1.5
_SIDE: Final = "|".join(SIDES)
Sides = Annotated[str, Field(pattern=rf"^({ALL_SIDES}|({_SIDE})(,({_SIDE})){{0,3}})$")]
ModelName = Annotated[str, Field(min_length=1, max_length=100)]


class GenerateBody(BaseModel):
    """A picture to draw; whatever is left out is the model's default."""

    # Strict, and no unknown fields: a misspelt name would be a default that nobody asked for.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [EXAMPLE]},
    )

    prompt: Prompt
    model: ModelName | None = Field(
        None,
        description=(
            "The model that draws, by a name of `GET /v1/models` or what stands after its slash; "
            "the first of them if left out."
        ),
    )
    num_inference_steps: Steps | None = Field(None, description="Denoising steps; Qwen-Image: 40.")
    width: Side | None = Field(None, description="Pixels; Qwen-Image: 1344.")
    height: Side | None = Field(None, description="Pixels; Qwen-Image: 768.")
    seed: Seed | None = Field(
        None, description="The same seed draws the same picture; a random one if left out."
    )
    negative_prompt: NegativePrompt | None = None
    guidance_scale: Guidance | None = Field(
        None, description="How closely the prompt is followed; Qwen-Image: 4."
    )
    count: Annotated[int, Field(ge=1, le=COUNT_MAX)] = Field(
        1, description="Pictures; picture i has the seed plus i."
    )
    lora: LoraName | None = Field(
        None, description="A LoRA to add, by a name of GET /api/v1/loras."
    )
    lora_strength: LoraStrength | None = Field(
        None, description="How strongly; else as GET /api/v1/loras says."
    )
    enhance: bool = Field(
        False,
        description=(
            "Have the model rewrite the prompt before it is drawn, as POST /api/v1/prompts/enhance "
            "does; it is drawn as it was sent where nothing of use was written."
        ),
    )
    transparent: bool | None = Field(
        None, description="A transparent background, where the model can draw one."
    )
    image: str | None = Field(
        None,
        description=(
            "A picture to draw over, as base64 or a data URL: PNG, JPEG, WebP or GIF, at most 25 "
            "MiB and 50 megapixels. The prompt says what is to be seen."
        ),
    )
    strength: Strength | None = Field(
        None, description="How far `image` is drawn anew; 0.6 if left out, 1 under a mask."
    )
    references: Annotated[list[str], Field(max_length=REFERENCES_MAX)] = Field(
        [],
        description=(
            "Pictures to edit, like `image`: the prompt is the instruction, and names them by "
            "number from 1. How many are possible is the model's; without `model` the first "
            "offered one that edits draws. Without a size the picture has the first one's shape."
        ),
    )
    mask: str | None = Field(
        None,
        description=(
            "A picture over `image`, or over the first of the `references`: what is white in it, "
            "or opaque, is drawn anew, and the rest stays as it is."
        ),
    )
    mask_inverted: bool = Field(
        False, description="Draw anew what is transparent in the mask instead, as with OpenAI."
    )
    outpaint: Sides | None = Field(
        None,
        description=(
            "Sides on which the picture goes on, such as `left,right`, or `all`: `image`, or the "
            "first of the `references`, stays as it is, and what lies around it is drawn. The size "
            "follows from it, with about the area of the model's default size."
        ),
    )
    outpaint_factor: Annotated[float, Field(gt=1, le=FACTOR_MAX)] | None = Field(
        None,
        description=(
            "How many times as wide and as high it becomes where it goes on; "
            f"{OUTPAINT_FACTOR:g} if left out."
        ),
    )
    outpaint_pixels: Annotated[int, Field(ge=1, le=PIXELS_MAX)] | None = Field(
        None, description="Instead of the factor: pixels of the picture to add on each side."
    )


class GenerateForm(GenerateBody):
    """The same as the fields of a form, which are text; its files are the pictures."""

    model_config = ConfigDict(extra="forbid", strict=False)


class LoraView(BaseModel):
    """A LoRA that may be asked for; its trigger words are added to the prompt."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"name": "Pixel art", "strength": 0.8, "trigger_words": "pixel art"}]
        }
    )

    name: str
    strength: float
    trigger_words: str


class Usage(BaseModel):
    """What a job took: seconds of the graphics card, failed attempts among them.

    Null for jobs of more than a week ago, where the ledger has forgotten them.
    """

    gpu_seconds: float | None


class Generated(BaseModel):
    """The finished picture. `image_urls` is there where several were asked for.

    `revised_prompt` is there where it was drawn from a rewritten prompt.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_GENERATED]})

    image_url: str
    model: str
    width: int
    height: int
    seed: int
    num_inference_steps: int
    format: Literal["png"]
    usage: Usage
    image_urls: list[str] | None = None
    revised_prompt: str | None = None


class PictureView(BaseModel):
    """A finished picture of a job."""

    url: str
    position: int
    width: int
    height: int
    seed: int
    size_bytes: int
    sha256: str


class JobView(BaseModel):
    """A job as it stands. Times are Unix seconds; `starts_at` and `ends_at` are estimates."""

    model_config = ConfigDict(json_schema_extra={"examples": [_JOB]})

    id: str
    kind: Literal["picture", "text"]
    state: Literal["queued", "running", "generated", "failed", "cancelled"]
    model: str
    width: int
    height: int
    seed: int
    num_inference_steps: int
    count: int
    created_at: float
    started_at: float | None
    finished_at: float | None
    ahead: int | None = Field(description="Jobs that come before it; null when it has ended.")
    starts_at: float | None
    ends_at: float | None
    step: int = Field(description="Denoising steps that are done.")
    stage: str | None = Field(
        description="While the model is being loaded: what is, or why it cannot be; else null."
    )
    error: str | None
    usage: Usage
    images: list[PictureView]
    text: str | None = Field(description="What was written, of a job that writes.")
    revised_prompt: str | None = Field(
        description="The rewritten prompt that it is drawn from; null where there is none."
    )
    status_url: str
    events_url: str


class JobsPage(BaseModel):
    """Jobs of a key, newest first."""

    jobs: list[JobView]
    next: str | None = Field(
        description="What `before` has to be for the next page; null at the end. A page may be "
        "short, or empty, and not the last."
    )


class Refusal(BaseModel):
    """Why a request was not answered as asked."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"detail": "The seed must be a whole number."}]}
    )

    detail: str
    job_id: str | None = None


def refusals(*statuses: int, model: type[BaseModel] = Refusal) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the errors that an endpoint may answer."""
    texts = {
        400: "The request is wrong.",
        401: "No valid key.",
        403: "Not allowed.",
        404: "There is no such thing, or it is another key's.",
        409: "The job was cancelled, is done already, or is another request's.",
        410: "The pictures were deleted.",
        413: "The body is too large.",
        415: "The body is not declared as what it has to be.",
        422: "The request is wrong.",
        429: "A limit refuses it for now; Retry-After says for how long, where that is known.",
        500: "A fault of the bot's; the log has it under the id in the sentence.",
        502: "The picture could not be made.",
        503: "Nothing is accepted for now: the queue or the disk is full, or the bot stops.",
        504: "Not done in time; the job goes on.",
    }
    return {status: {"model": model, "description": texts[status]} for status in statuses}
