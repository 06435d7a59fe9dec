from __future__ import annotations

import copy

import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch


import numpy as np
from PIL import Image

from bot.engine.stream.decode import (
    PictureCodec,
    fitted,
    measure,
    needs_tiles,
    working_bytes,
)
from bot.engine.stream.device import Device
from bot.engine.stream.flat_vae import flatten
from bot.engine.tiny.model import TinyVAE
from tests.engine.toy_files import untrained
from tests.stream.kit import rounded

GIB = 2**30


@pytest.fixture(scope="module")
def pipe():
    torch.set_num_threads(1)  # shares few cores with other processes
    return untrained()


@pytest.fixture(scope="module")
def codec(pipe):
    return PictureCodec(pipe.vae, Device(), torch.float32)


def noise(pictures, height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(pictures, 16, height // 8, width // 8, generator=generator)


def pixels(image):
    return np.asarray(image)


def stock(pipe, latents, **tiles):
    with torch.no_grad():
        return rounded(pipe.vae.decode(latents, device="cpu", **tiles))


@pytest.mark.slow
def test_pictures_are_those_of_diffsynth_each_alone(pipe, codec) -> None:
    latents = noise(3, 64, 96)
    images = list(codec.decode(latents))
    assert [image.size for image in images] == [(96, 64)] * 3
    for image, one in zip(images, latents.split(1), strict=True):
        assert np.array_equal(pixels(image), pixels(stock(pipe, one)))
    assert len({image.tobytes() for image in images}) == 3
    assert codec.last.tiled is False


@pytest.mark.slow
def test_in_bfloat16_too() -> None:
    pipe = untrained()
    codec = PictureCodec(pipe.vae, Device(), torch.bfloat16)
    latents = noise(1, 64, 64)
    (image,) = codec.decode(latents)
    assert np.array_equal(pixels(image), pixels(stock(pipe, latents.bfloat16())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_picture_drawn_from_itself_again_and_again_keeps_its_brightness(dtype):
    class Mirror(torch.nn.Module):
        def encode(self, x, **_):
            return x

        decode = encode

    codec = PictureCodec(Mirror(), Device(), dtype)
    levels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture = Image.fromarray(levels)
    for _ in range(10):
        (picture,) = codec.decode(codec.encode(picture, 64, 64))
    assert abs(float(pixels(picture).mean()) - float(levels.mean())) < 0.1


def test_pictures_come_one_by_one(codec, monkeypatch) -> None:
    calls = []
    decode = codec._vae.decode
    monkeypatch.setattr(
        codec._vae, "decode", lambda x, **options: calls.append(x.shape[0]) or decode(x, **options)
    )
    pictures = codec.decode(noise(2, 32, 32))
    next(pictures)
    assert calls == [1]
    next(pictures)
    assert calls == [1, 1]


@pytest.mark.slow
def test_tiles_when_room_is_short_and_they_are_diffsynths(pipe, codec) -> None:
    latents = noise(1, 640, 64)
    room = working_bytes(64, 640, 4, tiled=False) - 1
    (tiled,) = codec.decode(latents, room)
    assert codec.last.tiled is True
    want = stock(pipe, latents, tiled=True, tile_size=64, tile_stride=48)
    assert np.array_equal(pixels(tiled), pixels(want))
    (whole,) = codec.decode(latents, room + 1)
    assert codec.last.tiled is False
    assert not np.array_equal(pixels(whole), pixels(tiled))


@pytest.mark.parametrize(
    ("width", "height", "gib"), [(1344, 768, 1.29), (1328, 1328, 2.21), (2048, 2048, 5.25)]
)
def test_the_formula_meets_what_was_measured(width, height, gib) -> None:
    whole = working_bytes(width, height, 2, tiled=False) / GIB
    assert gib <= whole <= 1.04 * gib
    assert 0.34 < working_bytes(width, height, 2, tiled=True) / GIB < 0.4
    assert needs_tiles(width, height, 2, int((gib - 0.1) * GIB))
    assert not needs_tiles(width, height, 2, int(1.05 * gib * GIB))
    assert not needs_tiles(width, height, 2, None)


class Cramped:
    """A VAE on a device that has no memory for a whole picture, or for nothing at all."""

    def __init__(self, vae, *, tiles_fit=True):
        self.vae, self.tiles_fit, self.calls = vae, tiles_fit, []

    def __getattr__(self, name):
        return getattr(self.vae, name)

    def to(self, **_):
        return self

    def eval(self):
        return self

    def _work(self, name, x, tiled, **options):
        self.calls.append((name, tiled))
        if not (tiled and self.tiles_fit):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return getattr(self.vae, name)(x, tiled=tiled, **options)

    def decode(self, x, *, tiled, **options):
        return self._work("decode", x, tiled, **options)

    def encode(self, x, *, tiled, **options):
        return self._work("encode", x, tiled, **options)


def test_out_of_memory_is_answered_with_tiles_once(pipe) -> None:
    vae = Cramped(pipe.vae)
    codec = PictureCodec(vae, Device(), torch.float32)
    latents = noise(1, 64, 64)
    (image,) = codec.decode(latents)
    assert vae.calls == [("decode", False), ("decode", True)]
    assert codec.last.tiled is True
    assert np.array_equal(pixels(image), pixels(stock(pipe, latents)))  # one tile is the whole
    codec.encode(image, 64, 64)
    assert vae.calls[2:] == [("encode", False), ("encode", True)]

    for room, tries in ((None, 2), (0, 1)):
        vae = Cramped(pipe.vae, tiles_fit=False)
        with pytest.raises(torch.OutOfMemoryError):
            list(PictureCodec(vae, Device(), torch.float32).decode(latents, room))
        assert len(vae.calls) == tries


@pytest.mark.slow
def test_latents_of_a_picture_are_those_of_diffsynth(pipe, codec, tmp_path) -> None:
    size = (96, 64)
    colours = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    with torch.no_grad():
        want = pipe.vae.encode(pipe.preprocess_image(picture))
    got = codec.encode(picture, *size)
    assert torch.equal(got, want)
    picture.save(tmp_path / "p.png")
    assert torch.equal(codec.encode(tmp_path / "p.png", *size), want)
    codec.encode(picture, *size, room=0)
    assert codec.last.tiled is True


@pytest.mark.parametrize("given", [(300, 100), (100, 300)])
def test_a_picture_of_another_shape_is_covered_and_cut_evenly(given) -> None:
    width, height = given
    image = Image.new("RGB", given, "red")
    side = min(given)
    box = ((width - side) // 2, (height - side) // 2)
    image.paste(Image.new("RGB", (side, side), "blue"), box)
    out = fitted(image, 64, 64)
    assert out.size == (64, 64)
    assert out.getpixel((32, 32)) == (0, 0, 255)
    blue = pixels(out)[..., 2] > 200
    assert blue.mean() > 0.9  # the middle fills it, the red ends are cut off


def test_a_turned_or_transparent_picture_is_made_upright_and_opaque(tmp_path) -> None:
    image = Image.new("RGB", (80, 40), "red")
    image.paste(Image.new("RGB", (40, 40), "blue"), (0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned right by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    out = fitted(tmp_path / "turned.png", 40, 80)
    assert out.getpixel((20, 10)) == (0, 0, 255)
    assert out.getpixel((20, 70)) == (255, 0, 0)
    assert fitted(Image.new("RGBA", (10, 10), (1, 2, 3, 0)), 32, 32).mode == "RGB"
    assert fitted(Image.new("P", (10, 10)), 32, 32).mode == "RGB"


def test_measuring_tells_both_ways_for_each_size(codec) -> None:
    stages = measure(codec, [(64, 32)])
    assert [(s.width, s.height, s.tiled) for s in stages] == [
        (64, 32, False),
        (64, 32, False),
        (64, 32, True),
        (64, 32, True),
    ]
    assert all(stage.seconds > 0 and stage.expected_bytes > 0 for stage in stages)


def test_a_vae_without_time_computes_the_same_with_a_third_of_the_numbers() -> None:
    vae = TinyVAE().eval().requires_grad_(requires_grad=False)
    numbers = sum(parameter.numel() for parameter in vae.parameters())
    flat = copy.deepcopy(vae)
    flatten(flat)
    latents, picture = noise(2, 64, 48), torch.rand(1, 3, 48, 64) * 2 - 1
    with torch.no_grad():
        assert (flat.decode(latents) - vae.decode(latents)).abs().max() < 1e-5
        assert (flat.encode(picture) - vae.encode(picture)).abs().max() < 1e-5
    assert sum(parameter.numel() for parameter in flat.parameters()) < 0.4 * numbers
    with pytest.raises(ValueError, match="one frame"):
        flat.decode_video(latents.transpose(0, 1)[None])
