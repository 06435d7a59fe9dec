"""What a model's authors draw with where nobody says otherwise: negative prompt, norm of guidance."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from bot.catalogue.lightning import Lightning
from bot.catalogue.loras import Loras
from bot.catalogue.models import MODELS, find_model
from bot.catalogue.styles import Style
from bot.config.settings import Settings
from bot.domain.job import Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest
from bot.jobs.compose import Asked, Surroundings, compose, suited
from bot.jobs.derive import again, drawn_by, remixed
from bot.messages.details import details
from bot.pictures.parameters_written import png_texts
from bot.rules.preferences import Defaults

QWEN, NEWER = find_model("Qwen/Qwen-Image"), find_model("Qwen/Qwen-Image-2512")
TEXT = NEWER.negative
TURBO = "Qwen/Qwen-Image-2.1-Turbo"
HERE = Surroundings(NEWER)


def composed(around: Surroundings = HERE, **asked) -> ImageRequest:
    return compose(Asked("a fox", **asked), around)


def job_of(request: ImageRequest) -> Job:
    return Job(
        id="abcdefghijkm",
        user_id=1,
        guild_id=None,
        channel_id=None,
        target=Target.INTERACTION,
        state=JobState.GENERATED,
        request=request,
        created_at=0.0,
        model=NEWER.name,
    )


def test_the_authors_negative_prompt_is_drawn_with_and_not_shown_as_typed():
    request = composed()
    assert (request.negative_prompt, request.full_negative_prompt) == ("", TEXT)
    assert TEXT.startswith("低分辨率，低画质，肢体畸形")
    assert not request.wished_away
    shown = details(job_of(request), NEWER.name)
    parameters, _block, rest = shown.removeprefix("```\n").partition("```")
    assert "Negative prompt" not in parameters
    assert rest.count(TEXT) == 1
    in_file = png_texts("abcdefghijkm", request, NEWER.name)[0]
    assert f"\nNegative prompt: {TEXT}\n" in in_file["parameters"]
    assert json.loads(in_file["request"])["negative_prompt"] == ""
    assert ImageRequest.from_json(request.to_json()) == request


def test_a_space_is_a_prompt_of_its_own_and_joins_nothing():
    request = composed(Surroundings(QWEN))
    assert request.full_negative_prompt == " "
    parameters = png_texts("abcdefghijkm", request, QWEN.name)[0]["parameters"]
    assert "Negative prompt" not in parameters
    style = Style("plain", "flat colours", "shadows")
    around = Surroundings(QWEN, styles=(style,))
    assert composed(around, style="plain").full_negative_prompt == "shadows"
    styled = composed(replace(around, model=NEWER), style="plain")
    assert styled.full_negative_prompt == f"{TEXT}, shadows"


@pytest.mark.parametrize(
    ("around", "asked", "drawn"),
    [
        (Surroundings(NEWER), {"negative": "fog"}, "fog"),
        (Surroundings(NEWER, user=Defaults(negative="rain")), {}, "rain"),
        (Surroundings(NEWER, guild=Defaults(negative="rain")), {"negative": "none"}, ""),
        (Surroundings(NEWER), {"negative": "None"}, ""),
        (Surroundings(NEWER), {"negative": ""}, TEXT),
        (Surroundings(NEWER), {"guidance": 1.0}, ""),
        (Surroundings(find_model("Qwen/Qwen-Image-2.1")), {}, ""),
        (Surroundings(find_model("tiny")), {}, ""),
    ],
)
def test_what_somebody_says_counts_before_the_models(around, asked, drawn):
    assert composed(around, **asked).full_negative_prompt == drawn


def test_lightning_has_neither():
    fast = Loras(lightning=Lightning("Qwen-Image-2512-Lightning-8steps-V1.0-bf16", 8))
    request = composed(Surroundings(NEWER, loras=fast), quality="fast")
    assert (request.guidance, request.full_negative_prompt, request.cfg_norm) == (1.0, "", False)


def test_the_norm_is_kept_with_guidance_and_the_file_says_so():
    request = composed()
    assert request.cfg_norm
    assert not composed(guidance=1.0).cfg_norm
    texts = png_texts("abcdefghijkm", request, NEWER.name)[0]
    assert texts["parameters"].endswith(f"Model: {NEWER.name}, CFG norm: on")
    assert json.loads(texts["request"])["cfg_norm"] is True
    assert "CFG norm: on" in details(job_of(request), NEWER.name)
    plain = png_texts("abcdefghijkm", replace(request, cfg_norm=False), NEWER.name)[0]
    assert "CFG norm" not in plain["parameters"]
    assert json.loads(plain["request"])["cfg_norm"] is False


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, True),
        ({"image_cfg_norm": False}, False),
        ({"image_offload": "stock"}, False),
        ({"image_model_name": "stabilityai/stable-diffusion-xl-base-1.0"}, False),
    ],
)
def test_a_setting_turns_the_norm_off_and_only_our_engine_has_it(changes, kept):
    settings = Settings(_env_file=None, **changes)
    assert composed(Surroundings(settings.model)).cfg_norm is kept
    assert all(spec.streamed for spec in MODELS.values() if spec.cfg_norm)


def test_balanced_spares_steps_as_it_is_set_and_no_other_quality_does():
    settings = Settings(_env_file=None, image_reuse_threshold=0.2, image_quality_balanced="30:3")
    around = Surroundings(settings.model)
    request = composed(around, quality="balanced")
    assert (request.steps, request.guidance, request.reuse) == (30, 3.0, 0.2)
    others = [composed(around, quality=name) for name in ("fast", "standard", "high")]
    assert [other.reuse for other in others] == [0.0] * 3
    assert request.megapixel_steps < replace(request, reuse=0.0).megapixel_steps
    texts = png_texts("abcdefghijkm", request, NEWER.name)[0]
    assert texts["parameters"].endswith("CFG norm: on, Reuse: 0.2")
    assert again(job_of(request)).reuse == 0.2
    own = Settings(_env_file=None, image_quality_balanced="30:3").model
    assert own.qualities["balanced"].reuse == NEWER.qualities["balanced"].reuse > 0
    never = Settings(_env_file=None, image_reuse_threshold=0.0).model
    assert never.qualities["balanced"] == never.qualities["standard"]
    assert suited(request, find_model("Qwen/Qwen-Image-2.1")).reuse == 0.0
    assert list(settings.model.qualities) == ["fast", "balanced", "standard", "high"]
    for changes in ({"image_offload": "stock"}, {"image_model_name": "Qwen/Qwen-Image-2.1"}):
        model = Settings(_env_file=None, image_quality_balanced="30:3", **changes).model
        assert "balanced" not in model.qualities
        assert composed(Surroundings(model), quality="balanced").quality == "standard"


def test_a_distilled_model_has_its_own_steps_and_says_so():
    for changes in ({}, {"image_quality_standard": "30:4"}, {"image_offload": "stock"}):
        turbo = Settings(_env_file=None, image_model_name=TURBO, **changes).model
        request = composed(Surroundings(turbo), quality="high")
        assert (request.steps, request.guidance, request.quality) == (8, 1.0, "standard")
    here = Surroundings(turbo)
    assert composed(here, steps=8).steps == 8
    with pytest.raises(InvalidRequest, match="was made for 8 steps and draws in no other number"):
        composed(here, steps=9)
    assert suited(composed(steps=40), turbo).steps == 8


def test_a_transparent_background_is_asked_for_in_words_by_models_that_can():
    able = Surroundings(find_model(TURBO))
    before = "This is an RGBA image with transparency."
    after = "The image has alpha channel and the background is transparent."
    for prompt, stop in (("a fox", "."), ("a fox.", ""), ("一只狐狸。", ""), ("a fox!", "")):
        request = compose(Asked(prompt, transparent=True), able)
        assert request.prompt == prompt
        assert request.full_prompt == f"{before} {prompt}{stop} {after}"
        assert f"{before} … {after}" in details(job_of(request), TURBO)
        assert ", Background: transparent" in png_texts("j", request, TURBO)[0]["parameters"]
        assert again(job_of(ImageRequest.from_json(request.to_json()))).transparent
    # Waiting still when the bot was given a model that draws opaque pictures alone.
    opaque = suited(request, NEWER)
    assert (opaque.transparent, opaque.full_prompt) == (False, "a fox!")
    assert "ransparen" not in details(job_of(request), NEWER.name)
    assert "Steps: 8," in details(job_of(composed()), TURBO)
    assert compose(Asked("a fox", transparent=False), HERE).full_prompt == "a fox"
    with pytest.raises(InvalidRequest, match=r"2512 cannot draw a transparent background\.$"):
        composed(transparent=True)


@pytest.mark.parametrize("reuse", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(reuse):
    with pytest.raises(InvalidRequest, match="threshold"):
        ImageRequest("a fox", reuse=reuse)


def test_an_old_picture_is_drawn_again_as_it_was():
    old = ImageRequest.from_json('{"v": 1, "prompt": "a fox", "seed": 5}')
    once_more = again(job_of(old))
    assert (once_more.full_negative_prompt, once_more.cfg_norm) == ("", False)


def test_words_of_an_edit_take_the_models_place():
    job = job_of(composed())
    assert remixed(job, "a cat", "", 5).full_negative_prompt == TEXT
    assert remixed(job, "a cat", "fog", 5).full_negative_prompt == "fog"
    assert remixed(job, "a cat", "none", 5).full_negative_prompt == ""


def test_a_request_of_another_models_time_is_drawn_as_this_model_is():
    request = composed()
    assert suited(request, NEWER) == request
    assert suited(request, QWEN).full_negative_prompt == " "
    other = suited(request, find_model("stabilityai/stable-diffusion-xl-base-1.0"))
    assert (other.full_negative_prompt, other.cfg_norm) == ("", False)
    assert suited(replace(request, model_negative="fog", negative_prompt="rain"), QWEN) == replace(
        request, model_negative=" ", negative_prompt="rain"
    )


def test_what_another_model_is_to_draw_has_that_ones_size_steps_and_guidance():
    turbo = find_model(TURBO)
    request = composed(aspect="1:1", transparent=False)
    other = drawn_by(request, turbo, NEWER)
    assert (other.width, other.height, other.steps, other.guidance) == (1024, 1024, 8, 1.0)
    assert other.full_negative_prompt == ""
    back = drawn_by(other, NEWER, turbo)
    assert (back.width, back.height, back.steps, back.guidance) == (1328, 1328, 40, 4.0)
    # What somebody asked for stays as far as it can.
    newer = find_model("Qwen/Qwen-Image-2.1")
    own = drawn_by(composed(steps=17, guidance=2.5), newer, NEWER)
    assert (own.steps, own.guidance) == (17, 2.5)
    # Of an enlarged picture, too, and of a model that is in no table any more.
    large = replace(request, aspect=None, quality=None, width=2048, height=1152)
    assert drawn_by(large, turbo, NEWER) == replace(
        large, steps=8, guidance=1.0, model_negative="", cfg_norm=False, references_once=True
    )
    other = drawn_by(large, find_model("stabilityai/stable-diffusion-xl-base-1.0"), None)
    assert (other.width, other.height) == (1344, 768)
    assert (other.steps, other.guidance) == (large.steps, large.guidance)
