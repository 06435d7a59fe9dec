"""`POST /v1/images/edits`: forms as OpenAI's clients send them, and what is none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import struct
import zlib

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from bot.http import images, openai
from bot.http.errors import Problem
from bot.http.uploads import UPLOADS_AT_ONCE, read_form
from bot.pictures.headers import BYTES_LIMIT
from tests.engine.test_inputs import saved
from tests.http.kit import ALICE, GENERATE, TWO_KEYS, opened, png_of
from tests.wire.kit import soon

EDITS = "/v1/images/edits"
TALL = saved(Image.effect_noise((90, 160), 50))
OTHER = saved(Image.new("RGB", (16, 16)), "WEBP")


def image(data: bytes = TALL, name: str = "image") -> tuple[str, tuple[str, bytes, str]]:
    return name, ("a.png", data, "image/png")


@pytest.fixture
async def api(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as running:
        yield running


async def test_a_picture_to_start_from(api):
    sent = [
        # One file, as `image=open(…)`; the shape is the picture's.
        (
            [image()], {"prompt": "a house", "model": "gpt-image-1", "strength": "0.6"},
            0.6, TALL,
        ),
        # A list of one, and everything that a form can say only as text.
        (
            [image(OTHER, "image[]")],
            {"prompt": "a house", "n": "2", "size": "256x272", "quality": "high", "seed": "7",
             "strength": "0.25", "guidance_scale": "2.5", "stream": "false",
             "input_fidelity": "high", "output_format": "webp", "output_compression": "80"},
            0.25, OTHER,
        ),
    ]  # fmt: skip
    async with api.client(ALICE) as client:
        for files, data, strength, picture in sent:
            answer = await client.post(EDITS, files=files, data=data)
            assert answer.status_code == 200, answer.text
            drawn = api.stage.engine.requests[-1]
            kept = api.stage.app.settings.images_dir / "inputs"
            (name,) = kept.glob(f"{drawn.job_id}.input.*")
            assert name.read_bytes() == picture
            assert drawn.strength == strength
            assert len(answer.json()["data"]) == int(data.get("n", 1))
            assert all(one["b64_json"] and not one["url"] for one in answer.json()["data"])
        assert (drawn.width, drawn.height, drawn.guidance) == (256, 272, 2.5)
        assert drawn.seeds == (7, 8)
        first = api.stage.engine.requests[0]
        sizes = api.stage.app.settings.model.sizes
        assert (first.width, first.height) == sizes["9:16"]
        # JPEG and WebP can be started from as well; links where they are asked for.
        links = await client.post(
            EDITS,
            files=[image(OTHER)],
            data={"prompt": "a", "response_format": "url", "strength": "1"},
        )
        assert (await client.get(links.json()["data"][0]["url"])).status_code == 200
        shown = base64.b64encode((await client.get(links.json()["data"][0]["url"])).content)
        assert png_of(f"data:image/png;base64,{shown.decode()}").format == "PNG"


def header_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    check = struct.pack(">I", zlib.crc32(b"IHDR" + head))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head + check


REFUSED = [
    ([], {"prompt": "a"}, "as the file image", "image"),
    ([image(name="picture")], {"prompt": "a"}, "picture: it is no file", "picture"),
    ([image(), image(OTHER)], {"prompt": "a", "strength": "1"}, "2 came", "image"),
    ([image(), *[image(name="mask")] * 2], {"prompt": "a"}, "mask: one file", "mask"),
    ([image(), image(OTHER, "mask")], {"prompt": "a"}, "another shape", "mask"),
    ([image(), image(b"no", "mask")], {"prompt": "a"}, "mask: it must be a PNG", "mask"),
    ([image(), image(OTHER), image(name="mask")], {"prompt": "a"}, "does not edit", "image"),
    ([image()], {"prompt": "a"}, "add a model that does to IMAGE_MODELS", "model"),
    ([image()], {"prompt": "a"}, 'Else send "strength"', "model"),
    (
        [image()],
        {"prompt": "a", "strength": "1", "input_fidelity": "low"},
        "high",
        "input_fidelity",
    ),
    ([image()], {"prompt": "a", "strength": "1", "style": "vivid"}, 'no "style"', "style"),
    ([image(b"GIF8 or not")], {"prompt": "a"}, "PNG, JPEG, WebP or GIF", "image"),
    ([image(TALL[:20])], {"prompt": "a"}, "PNG, JPEG, WebP or GIF", "image"),
    ([image(header_of(10000, 5001))], {"prompt": "a"}, "50 megapixels", "image"),
    ([image(TALL + bytes(BYTES_LIMIT))], {"prompt": "a"}, "25 MiB", "image"),
    ([image()], {}, "prompt", "prompt"),
    ([image()], {"prompt": "a", "strength": "1.5"}, "strength", "strength"),
    ([image()], {"prompt": "a", "strength": "nan"}, "strength", "strength"),
    ([image()], {"prompt": "a", "strenght": "1"}, 'did you mean "strength"?', "strenght"),
    ([image()], {"prompt": "a", "n": "9"}, "n:", "n"),
    (
        [image()],
        {"prompt": "a", "strength": "1", "background": "transparent"},
        "opaque",
        "background",
    ),
    ([image()], {"prompt": "a", "strength": "1", "size": "17x17"}, "width", None),
    ([image()], {"prompt": "a" * 70_000}, "64 KiB", None),
    ([image()], {f"x{n}": "1" for n in range(99)}, "64 parts", None),
]


async def test_what_cannot_be_started_from_is_one_sentence(api):
    async with api.client(ALICE) as client:
        for files, data, words, param in REFUSED:
            # Without a file httpx would send no form.
            parts = files or [("prompt", (None, "a"))]
            answer = await client.post(EDITS, files=parts, data=data)
            assert answer.status_code == 400, (data.keys(), answer.text)
            error = answer.json()["error"]
            assert words in error["message"], data.keys()
            assert error["param"] == param, data.keys()
        no_form = await client.post(EDITS, json={"prompt": "a", "images": []})
        assert (no_form.status_code, "multipart/form-data" in no_form.text) == (415, True)
        for kind in ("multipart/form-data", "multipart/form-data; boundary=é", "x/y; boundary=b"):
            headers = {"Content-Type": kind.encode()}
            wrong = await client.post(EDITS, content=b"--b--", headers=headers)
            assert wrong.status_code in {400, 415}
        huge = await client.post(EDITS, files=[image(bytes(BYTES_LIMIT + 2**19))])
        assert huge.status_code == 413
    assert await api.stage.jobs_made() == 0
    assert not list((api.stage.app.settings.images_dir / "inputs").glob("*"))


@pytest.mark.slow
async def test_a_retry_with_the_same_picture_is_one_job(api):
    once = {
        "headers": {"Idempotency-Key": "order 9"},
        "data": {"prompt": "a house", "strength": "1"},
    }
    async with api.client(ALICE) as client:
        asked = [client.post(EDITS, files=[image()], **once) for _ in range(3)]
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.headers["X-Job-Id"] for answer in answers}) == 1
        changed = await client.post(EDITS, files=[image(OTHER)], **once)
        assert (changed.status_code, changed.json()["error"]["code"]) == (409, "conflict")
    assert await api.stage.jobs_made() == 1
    kept = list((api.stage.app.settings.images_dir / "inputs").glob("*"))
    assert [path.read_bytes() for path in kept] == [TALL]


@pytest.mark.slow
@pytest.mark.parametrize("native", [False, True])
async def test_few_pictures_are_read_at_the_same_time(api, monkeypatch, native):
    """As forms, or as text in a body that is longer than one without pictures."""
    reading, most = 0, 0
    full, go_on = asyncio.Event(), asyncio.Event()
    module, name = (images, "body_of") if native else (openai, "form_of")
    read = getattr(module, name)

    async def watched(request):
        nonlocal reading, most
        reading += 1
        most = max(most, reading)
        if reading == UPLOADS_AT_ONCE:
            full.set()
        await go_on.wait()
        try:
            return await read(request)
        finally:
            reading -= 1

    monkeypatch.setattr(module, name, watched)
    async with api.client(ALICE) as client:

        def send():
            if native:
                return client.post(GENERATE, json={"prompt": "a", "image": "no" * 150_000})
            return client.post(EDITS, files=[image(b"no")])

        many = asyncio.gather(*(send() for _ in range(9)))
        await soon(full.wait())
        go_on.set()
        assert {answer.status_code for answer in await many} == {422 if native else 400}
    assert most == UPLOADS_AT_ONCE


def form(fields: dict[str, str], files: list[tuple[str, bytes]]) -> tuple[bytes, bytes]:
    """Return a form as httpx writes it, and its boundary."""
    parts = [(name, ("a", data)) for name, data in files]
    request = httpx.Request("POST", "http://x/", data=fields, files=parts or [("", ("", b""))])
    boundary = request.headers["Content-Type"].rpartition("boundary=")[2]
    return request.read(), boundary.encode()


NAMES = st.text("abcdef_", min_size=1, max_size=9)
# Line ends and dashes are what a form is made of.
BYTES = st.binary(max_size=200) | st.lists(
    st.sampled_from([b"\r\n", b"--", b"\r", b"\n", b"\r\n--", b"x", b"\0"]), max_size=20
).map(b"".join)


@given(st.dictionaries(NAMES, st.text(max_size=99), max_size=4), st.lists(BYTES, min_size=1))
@example({}, [b""])
@example({"a": "\r\n"}, [b"\r\n", b"--\r\n"])
def test_what_a_client_sends_is_what_is_read(fields, contents):
    files = [("image[]", data) for data in contents[:9]]
    found = read_form(*form(fields, files))
    assert (found.texts, found.files) == (fields, {"image": contents[:9]})


def test_what_stands_around_a_form_and_long_names_count_for_nothing():
    body = (
        b"preamble\r\n--b \t\r\nContent-Type: text/plain\r\n"
        b"CONTENT-DISPOSITION: form-data; filename*=utf-8''%C3%A4.png; name=\"image\"\r\n\r\n"
        b"1\r\n--b\r\ncontent-disposition: form-data; name=prompt\r\n\r\n\xc3\xa4\r\n--b--\r\nx"
    )
    found = read_form(body, b"b")
    assert (found.texts, found.files) == ({"prompt": "ä"}, {"image": [b"1"]})


@given(st.data())
def test_a_broken_form_is_read_or_refused(data):
    body, boundary = form({"prompt": "a house"}, [("image", b"\r\n--")])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body = body[:at] + data.draw(BYTES) + body[at + data.draw(st.integers(0, 9)) :]
    # Whatever else it raised would be a fault of ours to the client.
    with contextlib.suppress(Problem):
        read_form(body, boundary)
