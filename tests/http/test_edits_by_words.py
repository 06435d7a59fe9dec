"""Edits by instruction over HTTP: several pictures and a mask, by the model that edits."""

from __future__ import annotations

import asyncio
import base64
import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from bot.catalogue.models import MODELS
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.jobs.editing import edit_size
from storage.images import engine_folder
from tests.engine.test_inputs import saved
from tests.http.kit import ALICE, GENERATE, TWO_KEYS, opened, png_of
from tests.http.test_edits import EDITS, OTHER, TALL, header_of, image

WIDE = saved(Image.effect_noise((200, 100), 50))
SQUARE = saved(Image.new("RGBA", (32, 32), (255, 255, 255, 0)))
PROMPT = {"prompt": "make it blue"}


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS, image_models="tiny-edit") as running:
        yield running


def text_of(data: bytes, head: str = "") -> str:
    return head + base64.b64encode(data).decode()


def url_of(data: bytes) -> str:
    return text_of(data, "data:image/png;base64,")


@pytest.mark.parametrize(
    ("shape", "model", "size"),
    [
        ((4000, 2000), "Qwen/Qwen-Image-Edit-2511", (1440, 704)),
        ((1024, 1024), "Qwen/Qwen-Image-Edit-2511", (1024, 1024)),
        ((90, 160), "Qwen/Qwen-Image-Edit-2509", (768, 1344)),
        ((6000, 1000), "Qwen/Qwen-Image-Edit-2511", (2048, 352)),
        ((36_000, 1000), "Qwen/Qwen-Image-Edit-2511", (2048, 256)),
        ((100, 100), "tiny-edit", (256, 256)),
        ((160, 90), "tiny-edit", (448, 256)),
        ((1, 1000), "tiny-edit", (256, 512)),
    ],
)
def test_the_size_follows_the_first_reference(shape, model, size):
    assert edit_size(shape, MODELS[model]) == size


async def test_openais_form_edits_by_the_model_that_can(api):
    sent = [
        ([image()], {}, "tiny-edit", [TALL], (256, 448)),
        ([image()], {"model": "gpt-image-1"}, "tiny-edit", [TALL], (256, 448)),
        (
            [image(WIDE, "image[]"), image(TALL, "image[]"), image(OTHER, "image[]")],
            {"model": "tiny-edit", "n": "2", "quality": "high"},
            "tiny-edit", [WIDE, TALL, OTHER], (512, 256),
        ),
        ([image()], {"size": "256x272"}, "tiny-edit", [TALL], (256, 272)),
    ]  # fmt: skip
    async with api.client(ALICE) as client:
        for files, data, model, references, size in sent:
            answer = await client.post(EDITS, files=files, data=PROMPT | data)
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert (drawn.model, drawn.strength, drawn.input_image) == (model, None, None)
            assert api.stage.engine.references[drawn.job_id] == references
            assert (drawn.width, drawn.height) == size
            assert len(answer.json()["data"]) == int(data.get("n", 1))
            assert answer.json()["size"] == f"{size[0]}x{size[1]}"


async def test_a_mask_is_of_the_first_picture_whatever_draws(api):
    async with api.client(ALICE) as client:
        files = [image(OTHER), image(TALL), image(SQUARE, "mask")]
        edited = await client.post(EDITS, files=files, data=PROMPT)
        assert edited.status_code == 200, edited.text
        drawn, seen = api.stage.engine.requests[-1], api.stage.engine
        assert seen.references[drawn.job_id] == [OTHER, TALL]
        assert (seen.inputs[drawn.job_id], seen.masks[drawn.job_id]) == (OTHER, SQUARE)
        assert (drawn.mask_inverted, drawn.strength) == (True, None)
        # The one that was asked for draws over what is marked, all of it.
        files = [image(OTHER), image(SQUARE, "mask")]
        for data, strength in (({}, 1.0), ({"strength": "0.5"}, 0.5)):
            answer = await client.post(EDITS, files=files, data=PROMPT | {"model": "tiny"} | data)
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert (drawn.model, drawn.references, drawn.strength) == ("tiny", (), strength)
            assert (seen.inputs[drawn.job_id], seen.masks[drawn.job_id]) == (OTHER, SQUARE)


LARGE = "Qwen/Qwen-Image-Edit-2511"
KEPT = [
    # The bot's own 1:1 size keeps its pixels; sides that are no multiples of 16 cannot.
    ((1328, 1328), {}, (1328, 1328)),
    ((1328, 1328), {"size": "auto"}, (1328, 1328)),
    ((1328, 1328), {"size": "512x512"}, (512, 512)),
    ((1331, 1331), {}, (1024, 1024)),
    ((2064, 2064), {}, (1024, 1024)),
]


async def test_under_a_mask_a_picture_keeps_its_size_if_the_model_can_draw_it(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, image_models=LARGE) as api,
        api.client() as client,
    ):
        for shape, size, expected in KEPT:
            data = saved(Image.new("RGB", shape))
            answer = await client.post(
                EDITS, files=[image(data), image(SQUARE, "mask")], data=PROMPT | size
            )
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert (drawn.model, drawn.width, drawn.height) == (LARGE, *expected), shape
        kept = text_of(saved(Image.new("RGB", (1328, 1328))))
        mask = {"mask": text_of(SQUARE), "mask_inverted": True, "model": LARGE}
        for body, expected in (
            ({"references": [kept]} | mask, (1328, 1328)),
            ({"image": kept} | mask, (1328, 1328)),
            # Without a mask nothing of it has to stay.
            ({"references": [kept]}, (1024, 1024)),
        ):
            answer = await client.post(GENERATE, json=PROMPT | body)
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert (drawn.model, drawn.width, drawn.height) == (LARGE, *expected), body.keys()


async def test_the_native_route_takes_text_and_files(api):
    as_text = PROMPT | {"references": [text_of(OTHER), url_of(TALL)], "mask": url_of(SQUARE)}
    async with api.client(ALICE) as client:
        answers = [
            await client.post(GENERATE, json=as_text),
            await client.post(
                GENERATE,
                files=[image(OTHER, "references"), image(TALL, "references"),
                       image(SQUARE, "mask")],
                data=PROMPT | {"num_inference_steps": "3"},
            ),
        ]  # fmt: skip
        for answer in answers:
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            assert answer.json()["model"] == drawn.model == "tiny-edit"
            assert png_of(answer.json()["image_url"]).size == (256, 256)
            assert api.stage.engine.references[drawn.job_id] == [OTHER, TALL]
            assert api.stage.engine.masks[drawn.job_id] == SQUARE
            assert not drawn.mask_inverted
        assert drawn.steps == 3
        # A picture to draw over, larger than a body without pictures may be.
        large = saved(Image.effect_noise((700, 700), 90))
        assert len(large) > 256 * 1024
        over = {"image": url_of(large), "strength": 0.4, "mask": url_of(SQUARE)}
        answer = await client.post(GENERATE, json=PROMPT | over | {"mask_inverted": True})
        assert answer.status_code == 200, answer.text
        drawn = api.stage.engine.requests[-1]
        assert (drawn.model, drawn.strength, drawn.mask_inverted) == ("tiny", 0.4, True)
        assert api.stage.engine.inputs[drawn.job_id] == large


async def test_what_lies_around_a_picture_is_drawn(api):
    grey, wide = saved(Image.new("RGB", (256, 256), "grey")), {"outpaint_factor": 2}
    sent = [
        ({"image": text_of(grey), "outpaint": "all"}, (256, 256), (32, 32, 176, 176)),
        ({"image": text_of(grey), "outpaint": "left,right"} | wide, (512, 256), (128, 0, 256, 256)),
        ({"image": text_of(grey), "outpaint": "right", "outpaint_pixels": 128}, (384, 256),
         (0, 0, 256, 256)),
        ({"references": [text_of(grey), text_of(OTHER)], "outpaint": "top"} | wide, (256, 512),
         (0, 256, 256, 256)),
    ]  # fmt: skip
    once = {"headers": {"Idempotency-Key": "around"}}
    async with api.client(ALICE) as client:
        for body, size, place in sent:
            answer = await client.post(GENERATE, json={"prompt": "a street"} | body)
            assert answer.status_code == 200, answer.text
            assert (answer.json()["width"], answer.json()["height"]) == size
            drawn, seen = api.stage.engine.requests[-1], api.stage.engine
            assert ((drawn.width, drawn.height), drawn.place) == (size, place)
            assert (drawn.strength, drawn.mask, seen.inputs[drawn.job_id]) == (None, None, grey)
        assert (drawn.model, seen.references[drawn.job_id]) == ("tiny-edit", [grey, OTHER])
        form = {"prompt": "a street", "outpaint": "left", "outpaint_factor": "1.5"}
        files = [image(grey)]
        answers = [
            await client.post(GENERATE, files=files, data=form | more, **once)
            for more in ({}, {}, {"outpaint": "right"})
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 409]
        assert api.stage.engine.requests[-1].place == (128, 0, 256, 256)


FOUR = [text_of(OTHER)] * 4
REFUSED = [
    ({"references": FOUR}, "tiny-edit edits with at most 3 pictures; 4 came"),
    ({"references": FOUR * 3}, "references: List should have at most 10 items"),
    ({"references": [text_of(OTHER)], "model": "tiny"}, "tiny does not edit pictures by"),
    ({"references": ["not base64!"]}, "references: it is not valid base64"),
    ({"references": [text_of(b"GIF8 or not")]}, "references: it must be a PNG, JPEG"),
    ({"references": [text_of(header_of(10_000, 5001))]}, "at most 50 megapixels"),
    ({"references": text_of(OTHER)}, "references: Input should be a valid list"),
    ({"references": [text_of(OTHER)], "strength": 0.5}, "strength is of an image"),
    ({"references": [text_of(OTHER)], "image": text_of(OTHER)}, "not both"),
    ({"image": "é"}, "image: it is not valid base64"),
    ({"image": 7}, "image: Input should be a valid string"),
    ({"mask": text_of(SQUARE)}, "lies over image"),
    ({"mask_inverted": True}, "with a mask only"),
    ({"image": text_of(TALL), "mask": text_of(SQUARE)}, "another shape"),
    ({"strength": 0.5}, "strength is of an image"),
    ({"outpaint": "left"}, "outpaint goes on around image"),
    ({"outpaint_factor": 2}, "outpaint_factor is of use with outpaint only"),
    ({"image": text_of(TALL), "outpaint": "around"}, "outpaint: String should match"),
    ({"image": text_of(TALL), "outpaint": "all", "width": 512}, "width and outpaint do not go"),
    ({"image": text_of(TALL), "outpaint": "all", "strength": 1}, "strength and outpaint do not"),
    ({"image": text_of(SQUARE), "outpaint": "all", "mask": text_of(SQUARE)}, "mask and outpaint"),
    ({"image": text_of(TALL), "outpaint": "all", "outpaint_factor": 5}, "outpaint_factor: "),
    ({"image": text_of(TALL), "outpaint": "all", "outpaint_factor": 2, "outpaint_pixels": 9},
     "outpaint_factor or outpaint_pixels, not both"),
    ({"image": text_of(saved(Image.new("L", (40, 900)))), "outpaint": "top", "outpaint_factor": 4},
     "too long and narrow"),
]  # fmt: skip


async def test_what_cannot_be_edited_is_one_sentence_and_leaves_nothing(api):
    async with api.client(ALICE) as client:
        for body, words in REFUSED:
            answer = await client.post(GENERATE, json=PROMPT | body)
            assert answer.status_code == 422, (body.keys(), answer.text)
            assert words in answer.json()["detail"], (words, answer.text)
        four = await client.post(EDITS, files=[image(OTHER)] * 4, data=PROMPT)
        assert (four.status_code, four.json()["error"]["type"]) == (400, "invalid_request_error")
        assert "at most 3 pictures; 4 came" in four.json()["error"]["message"]
        as_text = await client.post(
            GENERATE, files=[image(OTHER, "references")], data=PROMPT | {"image": text_of(OTHER)}
        )
        assert (as_text.status_code, "send it as a file" in as_text.text) == (422, True)
    assert await api.stage.jobs_made() == 0
    assert not list((api.stage.app.settings.images_dir / "inputs").glob("*"))


async def test_a_retry_with_the_same_pictures_is_one_job(api):
    once = {"headers": {"Idempotency-Key": "edit 1"}}
    async with api.client(ALICE) as client:
        sent = [
            PROMPT | {"references": [text_of(one), text_of(two)]}
            for one, two in ((OTHER, TALL), (OTHER, TALL), (TALL, OTHER))
        ]
        first, again, turned = [await client.post(GENERATE, json=body, **once) for body in sent]
        assert first.headers["X-Job-Id"] == again.headers["X-Job-Id"]
        assert turned.status_code == 409
    assert await api.stage.jobs_made() == 1


CLIENT = """
import sys
from openai import BadRequestError, OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
one, two, mask = (open(path, "rb") for path in sys.argv[3:6])
answer = client.images.edit(
    image=[one, two], mask=mask, prompt="make it blue", n=1, size="auto", quality="low",
    background="auto", output_format="webp", model="gpt-image-1",
)
sys.stdout.write(answer.data[0].b64_json)
try:
    client.images.edit(image=open(sys.argv[3], "rb"), prompt="a", input_fidelity="low")
except BadRequestError as error:
    sys.stderr.write(f"{error.param} {error.code} {error.body['message']}")
"""


@pytest.mark.slow
async def test_openais_own_client_edits(api, tmp_path):
    """Real Python client, in a process of its own."""
    paths = []
    for name, data in (("one.png", OTHER), ("two.png", TALL), ("mask.png", SQUARE)):
        path = tmp_path / name
        await asyncio.to_thread(path.write_bytes, data)
        paths.append(str(path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, f"{api.url}/v1", ALICE, *paths,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    with Image.open(io.BytesIO(base64.b64decode(said))) as picture:
        assert picture.format == "WEBP"
    drawn, seen = api.stage.engine.requests[-1], api.stage.engine
    assert seen.references[drawn.job_id] == [OTHER, TALL]
    assert (seen.masks[drawn.job_id], drawn.mask_inverted) == (SQUARE, True)
    assert b"input_fidelity invalid_value" in errors


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(180)
async def test_the_toy_model_edits_within_a_mask(sandbox, tmp_path):
    """The whole way: form, disk, a real engine's process, and a picture that keeps the rest."""
    folder = engine_folder(tmp_path / "images", "engine")
    options = EngineOptions(
        tmp_path, lora_path=tmp_path, models=("tiny", "tiny-edit"), work_path=folder
    )
    engine = EngineProcess("tiny", options=options)
    source = Image.new("RGB", (256, 256), "grey")
    ImageDraw.Draw(source).ellipse((60, 60, 140, 140), fill="red")
    mask = Image.new("RGBA", (256, 256), "white")
    ImageDraw.Draw(mask).rectangle((40, 40, 160, 160), fill=(0, 0, 0, 0))
    async with (
        opened(sandbox, tmp_path, engine=engine, image_models="tiny-edit") as api,
        api.client() as client,
    ):
        client.timeout = 150  # It loads first, on a machine that may be busy.
        files = [image(saved(source)), image(TALL), image(saved(mask), "mask")]
        data = PROMPT | {"num_inference_steps": "3", "seed": "5"}
        answer = await client.post(EDITS, files=files, data=data)
        assert answer.status_code == 200, answer.text
        drawn = png_of(f"data:image/png;base64,{answer.json()['data'][0]['b64_json']}")
        before, after = (np.asarray(one.convert("RGB"), int) for one in (source, drawn))
        changed = (before != after).any(axis=2)
        assert changed[60:140, 60:140].mean() > 0.5
        changed[40:161, 40:161] = False
        assert not changed.any(), "not a pixel outside of the mask"
        # Of another area than the model's default, it keeps its size for that.
        larger, over = (one.resize((320, 304)) for one in (source, mask))
        answer = await client.post(
            EDITS, files=[image(saved(larger)), image(saved(over), "mask")], data=data
        )
        assert answer.status_code == 200, answer.text
        drawn = png_of(f"data:image/png;base64,{answer.json()['data'][0]['b64_json']}")
        assert drawn.size == larger.size
        stays = np.asarray(over.getchannel("A")) == 255
        before, after = (np.asarray(one.convert("RGB")) for one in (larger, drawn))
        assert (before[stays] == after[stays]).all()
        # An empty mask: the engine's sentence is the answer, and the job is the caller's.
        files = [image(saved(source)), image(saved(source), "mask")]
        empty = await client.post(EDITS, files=files, data=data)
        assert (empty.status_code, "nothing to redraw" in empty.text) == (400, True), empty.text
