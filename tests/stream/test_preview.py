"""Previews: what the linear map shows of latents."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.device import open_device
from bot.engine.stream.preview import LatentPreview, is_shown, synthetic_pictures


class MixingVae(torch.nn.Module):
    """A VAE of which the right map is known: the mean of 8 x 8 pixels, mixed into 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.mix = torch.nn.Parameter(torch.randn(3, 16, generator=generator))

    def encode(self, x, **_tiling):
        means = torch.nn.functional.avg_pool2d(x, 8)
        return torch.einsum("bchw,cd->bdhw", means, self.mix)


def mean_error(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, np.float32) - np.asarray(other, np.float32)).mean())


def test_the_map_is_found() -> None:
    codec = PictureCodec(MixingVae(), open_device("cpu"), torch.float32)
    preview = LatentPreview.of(codec)
    stripes = Image.linear_gradient("L").convert("RGB")
    stripes.paste((250, 10, 60), (0, 0, 96, 128))
    shown = preview.picture(codec.encode(stripes, 256, 256)[0])
    assert mean_error(shown, stripes.resize((32, 32), Image.Resampling.BOX)) < 1.5


def test_a_batch_is_one_sheet() -> None:
    codec = PictureCodec(MixingVae(), open_device("cpu"), torch.float32)
    preview = LatentPreview.of(codec)
    colours = [(240, 20, 20), (20, 240, 20), (20, 20, 240)]
    pictures = [Image.new("RGB", (256, 128), colour) for colour in colours]
    latents = torch.cat([codec.encode(picture, 256, 128) for picture in pictures])
    with Image.open(io.BytesIO(preview.encoded(latents))) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.size == (128, 64)
        for place, colour in zip([(32, 16), (96, 16), (32, 48)], colours, strict=True):
            assert sheet.getpixel(place) == pytest.approx(colour, abs=12)


@pytest.mark.parametrize(
    ("total", "steps"),
    [(1, []), (4, [1, 2, 3]), (10, [2, 3, 4, 5, 7, 8, 9]), (40, [5, 10, 15, 20, 25, 30, 35])],
)
def test_few_steps_are_shown_and_never_the_last(total, steps) -> None:
    assert [step for step in range(1, total + 1) if is_shown(step, total)] == steps


def test_synthetic_pictures_have_all_colours() -> None:
    pixels = np.concatenate([np.asarray(p).reshape(-1, 3) for p in synthetic_pictures()])
    assert (pixels.min(0) < 10).all()
    assert (pixels.max(0) > 245).all()
