"""Pictures that Discord finds too large, and pictures whose files are gone."""

from __future__ import annotations

import hashlib
import io
import json
import os

import pytest
from PIL import Image

from bot.engine.child.png import save_png
from bot.messages.upload import fit_png
from bot.pictures.parameters_read import read_parameters
from bot.pictures.texts import read_texts
from bot.pictures.writers import Parameters
from tests.wire.kit import job_id_of, text_of

SIDE = 512


@pytest.fixture
def noise(tmp_path):
    """A picture that no encoding makes small."""
    picture = Image.frombytes("RGB", (SIDE, SIDE), os.urandom(SIDE * SIDE * 3))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


async def drawn(stage, count=1):
    """Return a delivered job's id and the paths of its pictures."""
    message = await stage.outcome(await stage.imagine("alice", "a house", count=count))
    await stage.delivered(job_id_of(message))
    job_id = job_id_of(message)
    folder = stage.app.settings.images_dir
    return job_id, [folder / record.file for record in await stage.queue.images(job_id)]


async def exchange(stage, job_id, data, position=0):
    """Have a picture of a job be another one, on the disk and in its row."""
    record = (await stage.queue.images(job_id))[position]
    (stage.app.settings.images_dir / record.file).write_bytes(data)
    values = (hashlib.sha256(data).hexdigest(), len(data), job_id, position)
    await stage.database.write(
        lambda tx: tx.execute(
            "UPDATE images SET sha256 = ?, size_bytes = ? WHERE job_id = ? AND position = ?", values
        )
    )


async def send_again(stage, job_id, **changes):
    """Put a delivered job back into the outbox, as one that waits for its answer."""

    async def put_back(tx):
        await tx.execute("DROP TRIGGER deliveries_state")
        await tx.execute(
            "UPDATE deliveries SET state = 'pending', rung = NULL, token = NULL WHERE job_id = ?",
            (job_id,),
        )

    await stage.database.write(put_back)
    stage.app.client.services.courier._wake.set()
    return await stage.delivered(job_id)


async def test_a_refused_size_is_sent_smaller(stage, noise):
    job_id, _ = await drawn(stage)
    await exchange(stage, job_id, noise)
    # Discord's own limit may be lower than the one that it tells.
    stage.sandbox.world.attachment_limit = 300 * 1024
    delivery = await send_again(stage, job_id)
    assert (delivery.state, delivery.rung) == ("delivered", "edit")
    (message,) = stage.visible()
    assert len(message.files[0].data) <= 300 * 1024
    with Image.open(io.BytesIO(message.files[0].data)) as picture:
        assert picture.format == "WEBP"


def noisy(path, side=SIDE):
    """Make a picture one that no encoding makes small, its texts as they are; return them."""
    with Image.open(path) as picture:
        texts = dict(picture.text)
    save_png(Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)), path, texts)
    return texts


@pytest.mark.slow
@pytest.mark.parametrize("limit", [100, 300], ids=["halved", "lossy"])
async def test_a_smaller_file_says_how_it_was_made_too(stage, limit):
    prompt = "一只猫 in a café, 🐱"
    message = await stage.outcome(await stage.imagine("alice", prompt, negative="fog", seed=7))
    job_id = job_id_of(message)
    (record,) = await stage.queue.images(job_id)
    path = stage.app.settings.images_dir / record.file
    texts = noisy(path)
    upload = fit_png(path.read_bytes(), "x", "noise", limit * 1024)
    assert (upload.name, len(upload.data) <= limit * 1024) == ("x.webp", True)
    assert read_parameters(upload.data) == Parameters("", texts["parameters"])
    found = read_texts(upload.data).found
    assert json.loads(found["request"]) == json.loads(texts["request"])
    # As someone reads it who meets the file elsewhere.
    posted = await stage.sandbox.user("alice").send("general", "", [(upload.name, upload.data)])
    menu = await stage.sandbox.user("bob").context_menu("general", "Show parameters", posted)
    answer = await menu.until(lambda m: bool(m.content))
    assert prompt in answer.content
    assert "Seed: 7" in answer.content
    with Image.open(io.BytesIO(upload.data)) as picture:
        assert picture.getexif().get_ifd(0x8769)[0x9286][:8] == b"UNICODE\0"


@pytest.mark.slow
async def test_each_of_a_batch_says_how_it_was_made_whatever_its_size(stage):
    job_id, paths = await drawn(stage, count=4)
    (message,) = stage.visible()
    found = [read_parameters(file.data) for file in message.files]
    assert found == [read_parameters(path.read_bytes()) for path in paths]
    assert None not in found
    for position, path in enumerate(paths):
        noisy(path)
        await exchange(stage, job_id, path.read_bytes(), position)
    stage.sandbox.world.attachment_limit = 300 * 1024
    await send_again(stage, job_id)
    (message,) = stage.visible()
    names = [f"{job_id}_{position}.webp" for position in range(4)]
    assert [file.filename for file in message.files] == names
    assert [read_parameters(file.data) for file in message.files] == found


def test_a_picture_without_texts_is_fitted_without(tmp_path, noise):
    path = tmp_path / "noise.png"
    path.write_bytes(noise)
    upload = fit_png(path.read_bytes(), "x", "noise", 300 * 1024)
    assert b"EXIF" not in upload.data
    assert read_parameters(upload.data) is None


async def test_show_sends_smaller_too(stage, noise):
    job_id, _ = await drawn(stage)
    await exchange(stage, job_id, noise)
    stage.sandbox.world.attachment_limit = 300 * 1024
    alice = stage.sandbox.user("alice")
    shown = await (await alice.slash("art", "show", job=job_id)).answer()
    assert len(shown.files[0].data) <= 300 * 1024


async def test_show_says_when_discord_takes_nothing(stage):
    job_id, _ = await drawn(stage)
    fault = stage.sandbox.faults.respond("PATCH", "/webhooks/*", 413, code=40005, times=None)
    alice = stage.sandbox.user("alice")
    shown = await (await alice.slash("art", "show", job=job_id)).answer()
    assert "too large for Discord" in shown.content
    assert "40005" not in shown.content
    assert fault.hits <= 10


def test_the_smallest_encoding_has_smaller_sides(noise):
    upload = fit_png(noise, "x", "noise", 60 * 1024)
    assert len(upload.data) <= 60 * 1024
    with Image.open(io.BytesIO(upload.data)) as picture:
        assert picture.size == (SIDE // 2, SIDE // 2)


async def test_a_lost_file_is_spoken_of(stage):
    job_id, paths = await drawn(stage, count=4)
    paths[2].unlink()
    alice = stage.sandbox.user("alice")
    shown = await (await alice.slash("art", "show", job=job_id)).answer()
    assert len(shown.files) == 3
    assert "1 of 4 pictures" in text_of(shown)


async def test_a_batch_with_a_damaged_file_comes_apart(stage):
    job_id, paths = await drawn(stage, count=3)
    paths[1].write_bytes(paths[1].read_bytes()[:40])
    paths[2].unlink()
    await send_again(stage, job_id)
    (message,) = stage.visible()
    assert [file.filename for file in message.files] == [f"{job_id}_0.png"]
    assert "2 of 3 pictures" in text_of(message)


async def test_a_boosted_server_takes_larger_files(stage, noise):
    guild = stage.app.client.guilds[0]
    ladder = stage.app.client.services.courier._ladder
    default = ladder.file_limit(None)
    assert ladder.file_limit(guild.id) == default
    guild.premium_tier = 2
    assert ladder.file_limit(guild.id) == 50 * 2**20
