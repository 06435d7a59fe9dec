"""Previews of a child that is not trusted: a small JPEG and nothing else is one."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from PIL import Image

from bot.engine.frames import FrameError
from bot.engine.parent.output_check import check_preview
from bot.engine.protocol import Preview
from bot.errors import EngineError, EngineErrorKind
from tests.engine.kit import draw, misbehaving, request
from tests.engine.misbehaving import PREVIEW

Kind = EngineErrorKind


def jpeg(size=(64, 48), **options) -> bytes:
    data = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(data, "JPEG", **options)
    return data.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_a_small_jpeg_is_a_preview(options):
    check_preview(Preview(1, jpeg(**options)), request(Path()))


def test_a_batch_may_be_counted_picture_by_picture():
    wanted = request(Path(), steps=4, seeds=(1, 2))
    check_preview(Preview(8, jpeg()), wanted)
    with pytest.raises(FrameError, match="no step"):
        check_preview(Preview(9, jpeg()), wanted)


@pytest.mark.parametrize(
    ("size", "count"), [((256, 256), 1), ((2048, 2048), 4), ((1344, 768), 3), ((256, 2048), 2)]
)
def test_the_noise_of_the_first_steps_is_a_preview(size, count):
    """As the engine shows it: an eighth of each side, twice as large, side by side."""
    columns = 1 if count == 1 else 2
    sheet = (columns * size[0] // 8, -(-count // columns) * size[1] // 8)
    noise = Image.frombytes("RGB", sheet, os.urandom(3 * sheet[0] * sheet[1]))
    data = io.BytesIO()
    larger = noise.resize((2 * sheet[0], 2 * sheet[1]), Image.Resampling.BICUBIC)
    larger.save(data, "JPEG", quality=80)
    wanted = request(Path(), width=size[0], height=size[1], seeds=tuple(range(count)))
    check_preview(Preview(0, data.getvalue()), wanted)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"GIF89a" + bytes(50),
        jpeg()[:-2],
        jpeg()[:-200],
        jpeg() + b"PK\x03\x04",
        jpeg(comment=b"a program"),
        jpeg(exif=Image.Exif().tobytes() + b"x"),
        jpeg(icc_profile=b"x" * 200),
        jpeg((2000, 8)),
        jpeg((500, 500), quality=100),
        jpeg().replace(b"\xff\xc4", b"\xff\xed", 1),
    ],
    ids=lambda data: f"{len(data)}",
)
def test_no_other_bytes_are(data):
    with pytest.raises(FrameError, match="preview"):
        check_preview(Preview(1, data), request(Path()))


async def test_a_junk_preview_ends_the_child(tmp_path, monkeypatch):
    async with misbehaving(tmp_path, monkeypatch) as engine:
        with pytest.raises(EngineError, match="preview") as caught:
            await draw(engine, request(tmp_path, "junk-preview"))
        assert caught.value.kind is Kind.GARBLED
        assert Preview(1, PREVIEW) in await draw(engine, request(tmp_path, "preview"))
