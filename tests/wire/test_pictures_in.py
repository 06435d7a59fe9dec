"""Pictures that come in: by option, by direct message, by a message's menu."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io

import pytest
from aiohttp import web
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bot.client import attachments
from bot.client.attachments import Fetcher
from bot.errors import InvalidRequest, JobNotFound
from bot.jobs.compose import DEFAULT_STRENGTH
from bot.pictures.exif import VALUE_LIMIT
from bot.sandbox import world
from tests.wire.kit import job_id_of, staged


def png(size=(90, 120), colour="teal", texts=None) -> bytes:
    info = PngInfo()
    for name, text in (texts or {}).items():
        info.add_text(name, text, zip=len(text) > 1000)
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def last_input(stage) -> bytes:
    return stage.engine.inputs[stage.engine.requests[-1].job_id]


async def test_an_attached_picture_is_the_start_and_gives_the_shape(stage):
    data = png()
    message = await stage.outcome(await stage.imagine("bob", "in oil", image=("a.png", data)))
    job = await stage.job_of(message)
    assert last_input(stage) == data
    with Image.open(io.BytesIO(message.files[0].data)) as picture:
        assert picture.text["parameters"].endswith("Denoising strength: 0.6")
    assert (job.request.aspect, job.request.strength) == ("3:4", DEFAULT_STRENGTH)
    assert stage.engine.requests[-1].strength == DEFAULT_STRENGTH
    options = {"image": ("a.png", data), "strength": 0.3, "aspect": "1:1"}
    job = await stage.job_of(await stage.outcome(await stage.imagine("bob", "in oil", **options)))
    assert (job.request.aspect, job.request.strength) == ("1:1", 0.3)


def phone_photo() -> bytes:
    """A portrait as phones store it: lying, with a note how to turn it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (400, 300), "teal").save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


@pytest.mark.parametrize("label", [(400, 300), (300, 400), (3000, 40), (None, None)])
async def test_the_shape_is_what_the_bytes_say_whatever_the_label(stage, monkeypatch, label):
    monkeypatch.setattr(world, "_picture_size", lambda _data: label)
    bob, data = stage.sandbox.user("bob"), phone_photo()
    file = ("a.jpg", data)
    messages = [await stage.outcome(await stage.imagine("bob", "in oil", image=file))]
    await bob.send("dm", "in oil", [file])
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    messages += stage.visible("bob", "dm")
    posted = await bob.send("general", "look", [file])
    opened = await bob.context_menu("general", "Use as input", posted)
    await opened.response()
    sent = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "0.5"})
    messages.append(await stage.outcome(sent))
    for message in messages:
        request = (await stage.job_of(message)).request
        assert (request.aspect, request.width < request.height) == ("3:4", True)
    drawn = stage.engine.requests[-1]
    assert drawn.width < drawn.height


async def test_an_aspect_that_was_asked_for_stands(stage):
    options = {"image": ("a.jpg", phone_photo()), "aspect": "16:9"}
    job = await stage.job_of(await stage.outcome(await stage.imagine("bob", "x", **options)))
    assert (job.request.aspect, job.request.width > job.request.height) == ("16:9", True)


async def test_files_that_are_no_pictures_are_refused_by_name(stage):
    for name, data, words in (
        ("a.txt", b"hello", "cannot use the file a.txt"),
        ("a.png", b"hello, this is no picture", "not a picture that I know"),
    ):
        answer = await (await stage.imagine("bob", "x", image=(name, data))).answer()
        assert answer.ephemeral
        assert words in answer.content.replace("\\", "")
    assert await stage.jobs_made() == 0
    assert not list((stage.app.settings.images_dir / "inputs").glob("*"))


async def test_only_discords_own_hosts_are_asked(sandbox, tmp_path, monkeypatch):
    async with staged(sandbox, tmp_path) as stage:
        # As against the real Discord: the sandbox is then any other server.
        fetcher = stage.app.client.services.fetcher
        fetcher._sandbox = None
        for url in (
            "http://cdn.discordapp.com/a.png",
            "https://cdn.discordapp.com@evil.example/a.png",
            "https://cdn.discordapp.com:8443/a.png",
            "https://169.254.169.254/a.png",
            "https://[",
            "https://evil.example\\@cdn.discordapp.com.evil.example/a.png",
            "https://cdn.discordapp.com:443@evil.example/a.png",
            "https://user:word@cdn.discordapp.com/a.png",
            "https://cdn.discordapp.com.evil.example/a.png",
            "https://evil.example/cdn.discordapp.com/a.png",
            "https://cdn.discordapp.com%2eevil.example/a.png",
            "https://cdn.discordаpp.com/a.png",
            "https://xn--cdn-discordpp-7nh.com/a.png",
            "https://0x7f000001/a.png",
            "https://2130706433/a.png",
            "https://[::ffff:127.0.0.1]/a.png",
            "file:///etc/passwd",
            "//cdn.discordapp.com/a.png",
            "https:cdn.discordapp.com/a.png",
            "",
        ):
            with pytest.raises(InvalidRequest, match="could not be fetched"):
                await fetcher.fetch_url(url, "a.png")
        answer = await (await stage.imagine("bob", "x", image=("a.png", png()))).answer()
        assert "could not be fetched" in answer.content
        assert await stage.jobs_made() == 0


async def test_a_picture_in_a_direct_message(stage):
    bob, data = stage.sandbox.user("bob"), png()
    await bob.send("dm", "in oil", [("a.png", data)])
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    assert last_input(stage) == data
    await bob.send("dm", "", [("a.png", data)])
    await bob.send("dm", "two", [("a.png", data), ("b.png", data)])
    await stage.sandbox.wait(
        lambda: (
            {
                "Say in the same message what to make of the picture.",
                "Please send one picture at a time.",
            }
            <= {m.content for m in bob.messages("dm")}
        )
    )
    assert await stage.jobs_made() == 1


async def test_a_reply_in_a_direct_message_edits_that_picture(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path, image_models="tiny-edit") as stage:
        await bob.send("dm", "a fish")
        await sandbox.wait(lambda: stage.visible("bob", "dm"))
        (first,) = stage.visible("bob", "dm")
        await bob.send("dm", "with a hat", reply_to=first)
        await sandbox.wait(lambda: len(stage.visible("bob", "dm")) == 2)
        job = await stage.job_of(stage.visible("bob", "dm")[1])
        assert (job.request.prompt, job.parent_id) == ("with a hat", job_id_of(first))
        assert stage.engine.references[job.id] == [first.files[0].data]


async def test_use_as_input_takes_any_messages_picture(sandbox, tmp_path):
    bob, data = sandbox.user("bob"), png((160, 90))
    async with staged(sandbox, tmp_path) as stage:
        message = await sandbox.user("alice").send("general", "look", [("a.png", data)])
        opened = await bob.context_menu("general", "Use as input", message)
        assert (await opened.response()).modal
        wrong = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "much"})
        assert "a number from 0.05 to 1" in (await wrong.answer()).content
        await asyncio.gather(*stage.app.client.services.gallery._keeping.values())
    async with staged(sandbox, tmp_path) as stage:
        sent = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "0,4"})
        job = await stage.job_of(await stage.outcome(sent))
        assert (job.request.strength, job.request.aspect) == (0.4, "7:4")
        assert last_input(stage) == data
        kept = stage.app.settings.images_dir / "kept"
        assert len(list(kept.iterdir())) == 1
        # The key is worth nothing to anyone else, nor is a job's id one.
        for user, key in ((sandbox.user("alice").id, None), (bob.id, job.id)):
            wanted = key or next(kept.iterdir()).name.partition("_")[2]
            with pytest.raises(JobNotFound):
                await stage.app.client.services.gallery.kept(user, wanted)
        for _ in range(6):
            again = await bob.context_menu("general", "Use as input", message)
            await again.response()
        await asyncio.gather(*stage.app.client.services.gallery._keeping.values())
        assert len(list(kept.iterdir())) <= 6
        bare = await sandbox.user("alice").send("general", "no picture")
        answer = await (await bob.context_menu("general", "Use as input", bare)).answer()
        assert "no picture attached" in answer.content


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"parameters": "a cat\nSteps: 20, Seed: 7"}, "Made with AUTOMATIC1111"),
        ({"prompt": '{"3": {"inputs": {"seed": 9, "text": "a ```dog```"}}}'}, "seed: 9"),
        ({"parameters": '{"sui_image_params": {"prompt": "a cat"}}'}, "Made with SwarmUI"),
        ({"parameters": "x" * (VALUE_LIMIT + 1)}, "is too long to be read"),
        ({"Title": "x"}, "says nothing about how it was made"),
    ],
)
async def test_show_parameters_reads_the_file(stage, texts, words):
    message = await stage.sandbox.user("alice").send("general", "", [("a.png", png(texts=texts))])
    menu = await stage.sandbox.user("bob").context_menu("general", "Show parameters", message)
    answer = await menu.until(lambda m: bool(m.content))
    assert words in answer.content
    assert answer.content.count("```") in {0, 2}


async def test_the_menus_on_the_bots_own_answer(stage):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("alice", "a fish", seed=5))
    shown = await (await bob.context_menu("general", "Show parameters", first)).answer()
    assert "Seed: 5" in shown.content
    opened = await bob.context_menu("general", "Use as input", first)
    await opened.response()
    sent = await bob.submit_modal(opened, {"prompt": "in oil", "strength": "0.5"})
    await stage.outcome(sent)
    assert last_input(stage) == first.files[0].data


@pytest.fixture
async def elsewhere():
    """A server that redirects, or that never ends."""

    async def redirect(_):
        raise web.HTTPFound("/hidden.png")

    async def hidden(_):
        asked.append("hidden")
        return web.Response(body=png())

    async def endless(request):
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"\x89PNG\r\n\x1a\n" + bytes(2**20))
        return response

    async def packed(_):
        headers = {"Content-Encoding": "gzip"}
        return web.Response(body=gzip.compress(png() + bytes(2**26)), headers=headers)

    async def flaky(request):
        """Fail as the path says, as often as it says, then serve."""
        asked.append("flaky")
        kind, times = request.match_info["kind"], int(request.match_info["times"])
        if len(asked) > times:
            return web.Response(body=png())
        if kind.isdecimal():
            return web.Response(status=int(kind))
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(png()[:50])
        request.transport.abort()
        return response

    asked: list[str] = []
    app = web.Application()
    app.router.add_get("/flaky/{kind}/{times}.png", flaky)
    app.router.add_get("/packed.png", packed)
    app.router.add_get("/redirect.png", redirect)
    app.router.add_get("/hidden.png", hidden)
    app.router.add_get("/endless.png", endless)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = site._server.sockets[0].getsockname()[:2]
    yield f"http://{host}:{port}", asked
    await runner.cleanup()


async def test_redirects_are_not_followed_and_endless_files_are_cut(elsewhere):
    url, asked = elsewhere
    fetcher = Fetcher(f"{url}/api")
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetcher.fetch_url(f"{url}/redirect.png", "a.png")
    assert not asked
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetcher.fetch_url(f"{url}/flaky/302/9.png", "a.png")
    assert len(asked) == 1
    with pytest.raises(InvalidRequest, match="too large"):
        await fetcher.fetch_url(f"{url}/endless.png", "a.png")
    with pytest.raises(InvalidRequest, match="not a picture"):
        await fetcher.fetch_url(f"{url}/packed.png", "a.png")
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetcher.fetch_url(f"{url.replace('//', '//me@')}/hidden.png", "a.png")


@pytest.mark.parametrize("kind", ["403", "404", "429", "503", "cut"])
async def test_one_bad_answer_of_the_file_network_is_asked_again(elsewhere, monkeypatch, kind):
    monkeypatch.setattr(attachments, "_PAUSE_S", 0.0)
    url, asked = elsewhere
    fetcher = Fetcher(f"{url}/api")
    assert await fetcher.fetch_url(f"{url}/flaky/{kind}/1.png", "a.png") == png()
    assert len(asked) == 2
    asked.clear()
    with pytest.raises(InvalidRequest, match="could not be fetched"):
        await fetcher.fetch_url(f"{url}/flaky/{kind}/9.png", "a.png")
    assert len(asked) == 2
