"""OpenAI's streams: unfinished pictures, each finished one, and what goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import base64
import io
import sys

import pytest
from PIL import Image

from bot.errors import EngineError, EngineErrorKind
from tests.engines import PREVIEW, Script, ScriptedEngine
from tests.http.kit import ALICE, OPENAI, TWO_KEYS, events_of, opened
from tests.http.test_edits import EDITS, OTHER, TALL, image
from tests.wire.kit import soon

SMALL = {"prompt": "a house", "size": "256x272", "stream": True}
EVERY = {"background", "b64_json", "created_at", "output_format", "quality", "size", "type"}


async def test_unfinished_pictures_and_each_finished_one(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=3, preview=PREVIEW))
    async with opened(sandbox, tmp_path, TWO_KEYS, engine) as api, api.client(ALICE) as client:
        body = SMALL | {"n": 2, "partial_images": 2, "seed": 7, "num_inference_steps": 6}
        asked = body | {"output_format": "webp", "quality": "high"}
        async with client.stream("POST", OPENAI, json=asked) as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            assert stream.headers["X-Accel-Buffering"] == "no"
            events = events_of(stream)
            # Half of the steps is past the first third.
            name, partial = await anext(events)
            assert (name, partial["type"]) == ("image_generation.partial_image",) * 2
            assert set(partial) == EVERY | {"partial_image_index"}
            assert base64.b64decode(partial["b64_json"]) == PREVIEW
            assert (partial["partial_image_index"], partial["output_format"]) == (0, "jpeg")
            assert (partial["size"], partial["quality"]) == ("256x272", "high")
            engine.release.set()
            (name, second), *finished = [event async for event in events]
            assert (name, second["partial_image_index"]) == ("image_generation.partial_image", 1)
        for seed, (name, done) in zip((7, 8), finished, strict=True):
            assert (name, done["type"]) == ("image_generation.completed",) * 2
            assert set(done) == EVERY | {"seed", "usage"}
            assert (done["seed"], done["usage"]["gpu_seconds"]) == (seed, 3.0)
            with Image.open(io.BytesIO(base64.b64decode(done["b64_json"]))) as picture:
                assert (picture.format, picture.size) == ("WEBP", (256, 272))
        delivery = await api.stage.delivery(stream.headers["X-Job-Id"])
        assert delivery.state == "delivered"


async def test_an_edit_is_streamed_without_unfinished_pictures_unless_asked(sandbox, tmp_path):
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, image_models="tiny-edit") as api,
        api.client(ALICE) as client,
    ):
        for wanted, names in (({}, []), ({"partial_images": "1"}, ["image_edit.partial_image"])):
            data = {"prompt": "make it blue", "stream": "true"} | wanted
            files = [image(TALL), image(OTHER)]
            async with client.stream("POST", EDITS, data=data, files=files) as stream:
                found = [name async for name, _ in events_of(stream)]
            assert found == [*names, "image_edit.completed"]


@pytest.mark.slow
async def test_what_goes_wrong_is_an_event_and_before_that_a_status(sandbox, tmp_path):
    failing = Script(error=EngineError(EngineErrorKind.OUT_OF_MEMORY, "cuda"), error_at=1)
    engine = ScriptedEngine(failing, failing, Script(hold_at=1))
    settings = {"http_wait_seconds": 0.2}
    async with (
        opened(sandbox, tmp_path, TWO_KEYS, engine, **settings) as api,
        api.client(ALICE) as client,
    ):
        refused = await client.post(OPENAI, json=SMALL | {"size": "big"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "size")
        for code in ("engine_failed", "still_in_progress"):
            async with client.stream("POST", OPENAI, json=SMALL) as stream:
                ((name, said),) = [event async for event in events_of(stream)]
            assert (name, said["type"], said["error"]["code"]) == ("error", "error", code)
            assert said["job_id"] == stream.headers["X-Job-Id"]
        engine.release.set()
        await api.stage.delivered(stream.headers["X-Job-Id"])


@pytest.mark.slow
async def test_a_client_that_hangs_up_a_stream_cancels_nothing(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=1))
    async with opened(sandbox, tmp_path, TWO_KEYS, engine) as api, api.client(ALICE) as client:
        async with client.stream("POST", OPENAI, json=SMALL) as stream:
            await soon(engine.holding.wait())
        job_id = stream.headers["X-Job-Id"]
        engine.release.set()
        await api.stage.delivered(job_id)
        assert (await client.get(f"/api/v1/images/{job_id}.png")).status_code == 200


CLIENT = """
import sys
from openai import APIError, OpenAI
client = OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
made = client.images.generate(prompt="a house", model="gpt-image-1", stream=True, partial_images=1)
edited = client.images.edit(
    image=[open(path, "rb") for path in sys.argv[3:5]], prompt="make it blue", stream=True,
    partial_images=1,
)
for stream in (made, edited):
    for event in stream:
        print(type(event).__name__, event.type, len(event.b64_json) > 100)
"""


@pytest.mark.slow
async def test_openais_own_client_reads_the_streams(sandbox, tmp_path):
    """Real Python client, in a process of its own."""
    paths = []
    for name, data in (("one.png", OTHER), ("two.png", TALL)):
        paths.append(str(tmp_path / name))
        await asyncio.to_thread((tmp_path / name).write_bytes, data)
    async with opened(sandbox, tmp_path / "bot", TWO_KEYS, image_models="tiny-edit") as api:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CLIENT, f"{api.url}/v1", ALICE, *paths,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert said.decode().splitlines() == [
        "ImageGenPartialImageEvent image_generation.partial_image True",
        "ImageGenCompletedEvent image_generation.completed True",
        "ImageEditPartialImageEvent image_edit.partial_image True",
        "ImageEditCompletedEvent image_edit.completed True",
    ]
