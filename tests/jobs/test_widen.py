"""What is asked for around a picture, of every streamed model."""

from __future__ import annotations

import pytest

from bot.catalogue.models import MODELS
from bot.domain.ids import new_job_id
from bot.domain.job import ImageRecord, Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.errors import InvalidRequest
from bot.jobs.widen import PAN_FACTOR, PANS, SHAPES, WAYS, ZOOMS, Around, surrounded, widened

STREAMED = [spec for spec in MODELS.values() if spec.streamed]


def drawn(width, height, **values):
    request = ImageRequest("a house", width=width, height=height, aspect="1:1", **values)
    job = Job(new_job_id(), 1, None, None, Target.HTTP, request, JobState.GENERATED, 0.0)
    return job, ImageRecord(job.id, 0, "0.png", "", 1, width, height, 1)


def test_there_are_streamed_models():
    assert {"Qwen/Qwen-Image", "Qwen/Qwen-Image-2.1", "tiny", "tiny-edit"} <= {
        spec.name for spec in STREAMED
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("spec", STREAMED, ids=lambda spec: spec.name)
def test_every_shape_of_every_model_is_widened_to_what_it_draws(spec, way):
    areas = [w * h for w, h in spec.sizes.values()]
    for width, height in [*spec.sizes.values(), (1024, 1024), (2048, 1152)]:
        job, image = drawn(width, height, strength=0.3)
        wide, high = spec.sizes[SHAPES.get(way, "1:1")]
        wider = wide * height / (high * width)
        has_it = {"square": 0.96 < wider < 1.04, "wide": wider < 1.04, "tall": wider > 0.96}
        if has_it.get(way):
            with pytest.raises(InvalidRequest, match="that shape already"):
                widened(job, image, way, spec)
            continue
        asked = widened(job, image, way, spec)
        left, top, across, down = asked.place
        if way in ZOOMS:
            for whole, part in ((asked.width, across), (asked.height, down)):
                assert abs(whole / part - ZOOMS[way]) < 0.2
            assert abs(left - (asked.width - left - across)) <= 16
        elif way in PANS:
            along = PANS[way] in {"left", "right"}
            whole, part = (asked.width, across) if along else (asked.height, down)
            assert abs(whole / part - PAN_FACTOR) < 0.1
            # It lies at the other end, and fills the picture the other way.
            at = {"left": (asked.width - across, 0), "top": (0, asked.height - down)}
            assert (left, top) == at.get(PANS[way], (0, 0))
            assert (asked.height, asked.width)[not along] == (down, across)[not along]
        else:
            assert asked.width / asked.height == pytest.approx(wide / high, rel=0.07)
            assert (left == 0) != (top == 0)
        assert across / down == pytest.approx(width / height, rel=0.12)
        # The toy model's least side makes its long ones larger.
        most = 2 if way in PANS and spec.built_in else 1.25
        assert asked.width * asked.height <= most * max(areas)
        assert (asked.strength, asked.parent, asked.count) == (None, job.id, 1)


@pytest.mark.parametrize("way", PANS)
def test_a_picture_is_panned_until_it_is_too_long(way):
    model, shape = MODELS["Qwen/Qwen-Image"], (1344, 768)
    steps = []
    with pytest.raises(InvalidRequest, match=r"too long and narrow|too small"):
        while len(steps) < 10:
            asked = widened(*drawn(*shape), way, model)
            shape = (asked.width, asked.height)
            steps.append(max(shape) / min(shape))
    assert len(steps) >= 2


def test_around_a_picture_that_was_sent():
    request = ImageRequest("a street", aspect="7:4", strength=0.6)
    asked = surrounded(
        request, (1000, 1000), Around(("left", "right"), 2.0), MODELS["Qwen/Qwen-Image"]
    )
    assert (asked.width, asked.height) == (1440, 720)
    assert (asked.aspect, asked.strength) == (None, None)
    left, top, across, down = asked.place
    assert (left, top, across, down) == (352, 0, 720, 720)


def test_what_an_instruction_made_is_continued_by_one():
    job, image = drawn(256, 256, references=("a.png",), input_image="a.png", mask="m.png")
    asked = widened(job, image, "zoom20", MODELS["tiny-edit"])
    assert asked.prompt != job.request.prompt
    assert (asked.references, asked.mask, asked.input_image) == ((), None, None)
    job, image = drawn(256, 256, references=("a.png",), rewritten="make it night, moonlight")
    assert "night" not in widened(job, image, "zoom20", MODELS["tiny-edit"]).full_prompt


def test_a_model_that_cannot_says_so():
    other = next(spec for spec in MODELS.values() if not spec.streamed)
    with pytest.raises(InvalidRequest, match="cannot draw around"):
        widened(*drawn(1024, 1024), "zoom20", other)
