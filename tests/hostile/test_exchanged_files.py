"""A kept picture that something exchanged on the disk: no door shows what lies there now."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

from bot.archive.backup import back_up
from storage.input_pictures import GivenInputs
from tests.http.kit import GENERATE, opened
from tests.wire.kit import job_id_of, text_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="makes links and FIFOs")
SECRET = b"DISCORD_TOKEN=canary"


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parents[4] / "secret")


def _link_to_a_copy(path: Path) -> None:
    """The very bytes that were recorded, but by way of a link."""
    copy = path.parents[4] / "copy"
    copy.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(copy)


def _linked_folder(path: Path) -> None:
    folder = path.parent
    folder.symlink_to(folder.rename(path.parents[4] / "day"))


def _other_bytes(path: Path) -> None:
    path.write_bytes(SECRET.ljust(path.stat().st_size, b"."))


def _larger(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(3 * 2**30)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


EXCHANGES = [_link, _link_to_a_copy, _linked_folder, _other_bytes, _larger, _fifo]


@pytest.mark.parametrize(
    "exchange",
    [_link, *(pytest.param(one, marks=pytest.mark.slow) for one in EXCHANGES[1:])],
    ids=lambda one: one.__name__.strip("_"),
)
async def test_no_door_shows_it(sandbox, tmp_path, exchange):
    data = tmp_path / "data"
    (tmp_path / "data").mkdir()
    (data / "secret").write_bytes(SECRET)
    async with opened(sandbox, data) as api, api.client() as client:
        stage, bob = api.stage, sandbox.user("bob")
        message = await stage.outcome(await stage.imagine("bob", "a fish"))
        job_id = job_id_of(message)
        await stage.delivered(job_id)
        answer = await client.post(GENERATE, json={"prompt": "a boat"})
        ours = answer.headers["X-Job-Id"]
        for one in (job_id, ours):
            (record,) = await stage.queue.images(one)
            path = stage.app.settings.images_dir / record.file
            if not path.parent.is_symlink():
                exchange(path)

        fetched = await client.get(f"/api/v1/images/{ours}.png")
        assert fetched.status_code == 404
        shown = await (await bob.slash("general", "show", job=job_id)).answer()
        assert not shown.files
        assert "gone" in text_of(shown) or "1 of 1" in text_of(shown), text_of(shown)
        exported = await bob.slash("general", "privacy export")
        await exported.until(lambda m: "Sent" in m.content)
        sent = [m for m in bob.messages("dm") if m.files][-1]
        with zipfile.ZipFile(io.BytesIO(sent.files[0].data)) as archive:
            assert sorted(archive.namelist()) == ["README.txt", "data.json"]
        page = await (await bob.slash("general", "history")).until(lambda m: "a fish" in m.content)
        assert all(SECRET not in file.data for file in page.files)
        made = back_up(stage.app.settings, tmp_path / "copy-of-it", images=True)
        assert (made.pictures, len(made.unusable)) == (0, 2)
        assert not [p for p in made.folder.rglob("*.png") if p.is_file() or p.is_symlink()]


@pytest.mark.parametrize("exchange", [_link, _fifo, _larger], ids=["link", "fifo", "larger"])
async def test_a_picture_to_start_from_is_read_as_a_plain_file_too(stage, exchange):
    inputs = stage.app.client.services.gallery._store.inputs
    kept = await inputs.keep("01abcdefghjkmnpqrs", GivenInputs(b"a picture"))
    assert await inputs.read("01abcdefghjkmnpqrs", kept) == GivenInputs(b"a picture")
    exchange(inputs.path(kept.input_image))
    with pytest.raises(OSError, match=r"link|regular|large"):
        await inputs.read("01abcdefghjkmnpqrs", kept)
