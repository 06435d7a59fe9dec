"""The process that looks for regions: real pictures, crafted ones, and a process that fails."""

from __future__ import annotations

import io
import sys

import pytest
from PIL import Image, ImageDraw

from bot.regions.process import BrokenPictureError, RegionFinder, RegionSearchError
from tests.engine.test_inputs import BAD, saved


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures() -> tuple[bytes, bytes]:
    original = Image.effect_noise((320, 240), 30).convert("RGB")
    copy = original.copy()
    ImageDraw.Draw(copy).ellipse((60, 60, 200, 200), outline=(255, 0, 0), width=6)
    return png(original), png(copy)


async def test_it_finds_marks_and_names_and_shows_what_it_understood(pictures):
    finder = RegionFinder()
    region = await finder.marked(*pictures)
    assert region is not None
    assert region.marks == 1
    mask = Image.open(io.BytesIO(region.mask))
    assert (mask.mode, mask.size) == ("L", (320, 240))
    assert (mask.getpixel((130, 130)), mask.getpixel((10, 10))) == (255, 0)
    shown = Image.open(io.BytesIO(region.preview))
    inside, outside = (
        shown.convert("L").crop(box).resize((1, 1)).getpixel((0, 0))
        for box in ((100, 100, 160, 160), (0, 0, 40, 40))
    )
    assert inside > 2 * outside
    left = await finder.named(pictures[0], "left")
    assert left is not None
    assert left.share == pytest.approx(0.5)
    assert await finder.marked(pictures[0], pictures[0]) is None


async def test_what_is_no_picture_is_no_copy(pictures, caplog):
    finder = RegionFinder()
    assert await finder.marked(pictures[0], b"\x89PNG\r\n\x1a\n" + bytes(200)) is None
    # A header that announces 60,000 x 60,000 pixels.
    crafted = pictures[1][:16] + (60_000).to_bytes(4, "big") * 2 + pictures[1][24:]
    assert await finder.marked(pictures[0], crafted) is None


@pytest.mark.parametrize("name", ["left", "background"])
async def test_a_broken_picture_is_told_from_one_without_such_a_region(name, caplog):
    caplog.set_level("INFO")
    finder = RegionFinder()
    for data in (BAD["truncated"], BAD["truncated jpeg"], BAD["just too large"]):
        with pytest.raises(BrokenPictureError):
            await finder.named(data, name)
        assert await finder.small(data) is None
    assert "could not be unpacked" in caplog.text
    # Crafted Exif is no damage to the pixels: it is drawn from, too.
    odd = saved(Image.new("RGB", (40, 20), "red"), exif=b"Exif\0\0junk")
    assert (await finder.named(odd, name) is None) == (name == "background")


async def test_it_can_read_no_file_of_the_bots(pictures, tmp_path):
    """The confined process is started as ever, and what it would read is shut."""
    (tmp_path / "secret").write_text("x")
    code = (
        "import sys; from bot.engine.confinement.confine import confine;"
        "from bot.engine.confinement.policy import access_policy;"
        f"held = confine(access_policy(None)); open({str(tmp_path / 'secret')!r}) if held.landlock else 1/0"
    )
    finder = RegionFinder(command=(sys.executable, "-c", code))
    with pytest.raises(RegionSearchError):
        await finder.marked(*pictures)


@pytest.mark.parametrize(
    "code",
    [
        "import os; os._exit(3)",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "print('no json')",
        "print('[1]')",
        'print(\'{"found": true, "lengths": [99999999999, 1], "share": 0.5, "marks": 1}\')',
        'print(\'{"found": true, "lengths": [9, 1], "share": 0.5, "marks": 1}\')',
        'print(\'{"found": true, "lengths": [1, 1], "share": NaN, "marks": 1}\', "ab")',
        "print('[' * 60_000)",
    ],
)
async def test_a_process_that_fails_is_no_answer(pictures, code):
    finder = RegionFinder(command=(sys.executable, "-c", code))
    with pytest.raises(RegionSearchError):
        await finder.marked(*pictures)


async def test_a_silent_process_is_ended(pictures):
    code = (
        "import sys; sys.stderr.write('x' * 2**20); sys.stdin.read(); import time; time.sleep(600)"
    )
    finder = RegionFinder(command=(sys.executable, "-c", code), limit_s=0.5)
    with pytest.raises(RegionSearchError, match="no answer"):
        await finder.marked(*pictures)
