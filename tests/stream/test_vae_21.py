"""Qwen-Image-2.1's VAE behind the codec, small and random, against DiffSynth's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from diffsynth.core.vram.initialization import skip_model_initialization
from diffsynth.models.qwen_image_21_vae import QwenImage21VAE
from PIL import Image

from bot.engine.child.inputs import flattened
from bot.engine.stream.decode import PictureCodec, measure, working_bytes
from bot.engine.stream.device import Device
from bot.engine.stream.preview import LatentPreview
from bot.engine.stream.slim_vae import slim
from bot.engine.stream.vae_kind import QWEN_IMAGE_21_VAE as KIND
from tests.stream.kit import error

pytestmark = pytest.mark.slow


def stock(dtype: torch.dtype = torch.float32) -> QwenImage21VAE:
    torch.manual_seed(5)
    torch.set_num_threads(1)  # shares few cores with other processes
    vae = QwenImage21VAE(base_dim=8, decoder_base_dim=8, num_res_blocks=1)
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith("gamma"):  # as after training, not all one
                parameter.add_(0.2 * torch.randn(parameter.shape))
    return vae.to(dtype).eval().requires_grad_(requires_grad=False)


def codec(dtype: torch.dtype = torch.float32) -> PictureCodec:
    vae = stock(dtype)
    slim(vae)
    return PictureCodec(vae, Device(), dtype, KIND)


def latents(width: int, height: int, pictures: int = 1) -> torch.Tensor:
    shape = KIND.latents.of(pictures, width, height)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def levels(values: torch.Tensor) -> np.ndarray:
    """What is seen of [1, 4, height, width] from -1 to 1, on white."""
    pixels = ((values[0].permute(1, 2, 0) + 1) * 127.5).round().clip(0, 255).to(torch.uint8)
    return np.asarray(flattened(Image.fromarray(pixels.numpy(), "RGBA"))).astype(int)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_with_less_memory_it_gives_the_same_numbers(dtype):
    vae = stock(dtype)
    slimmer = copy.deepcopy(vae)
    slim(slimmer)
    z = latents(96, 64, 2).to(dtype)
    picture = (torch.rand(1, 4, 64, 96) * 2 - 1).to(dtype)
    bound = 1e-5 if dtype is torch.float32 else 1e-2
    assert error(slimmer.decode(z), vae.decode(z)) < bound
    assert error(slimmer.encode(picture), vae.encode(picture)) < bound
    assert {name for name, _ in vae.named_parameters() if "time_conv" not in name} == {
        name for name, _ in slimmer.named_parameters()
    }


def test_norms_of_many_rows_are_those_of_the_whole(monkeypatch):
    from bot.engine.stream import slim_vae

    z = latents(96, 96)
    vae = stock()
    exact = vae.decode(z)
    slim(vae)
    monkeypatch.setattr(slim_vae, "_AT_ONCE", 1000)
    assert error(vae.decode(z), exact) < 1e-5


def test_pictures_are_diffsynths_on_white_each_alone():
    z = latents(96, 64, 2)
    drawn = list(codec().decode(z))
    assert [(image.size, image.mode) for image in drawn] == [((96, 64), "RGB")] * 2
    for image, one in zip(drawn, z.split(1), strict=True):
        assert np.abs(np.asarray(image) - levels(stock().decode(one))).max() <= 1


def test_with_alpha_pictures_are_diffsynths_with_theirs():
    z = latents(96, 64, 2)
    for image, one in zip(codec().decode(z, alpha=True), z.split(1), strict=True):
        values = stock().decode(one)[0].permute(1, 2, 0)
        theirs = ((values + 1) * 127.5).round().clip(0, 255).numpy()
        assert image.mode == "RGBA"
        assert theirs[..., 3].std() > 1
        assert np.abs(np.asarray(image) - theirs).max() <= 1


@pytest.mark.parametrize("alpha", [True, False])
def test_latents_of_a_transparent_picture_are_diffsynths(tmp_path, alpha):
    """With its own transparency where that is to be kept, else on white."""
    levels = np.random.default_rng(0).integers(0, 255, (64, 96, 4), dtype=np.uint8)
    picture = Image.fromarray(levels, "RGBA")
    file = tmp_path / "input"
    picture.save(file, "PNG")
    seen = picture if alpha else flattened(picture).convert("RGBA")
    pixels = torch.from_numpy(np.array(seen, np.float32)).permute(2, 0, 1)[None]
    got = codec().encode(file, 96, 64, alpha=alpha)
    assert error(got, stock().encode(pixels * (2 / 255) - 1)) < 1e-5


def test_tiles_where_room_is_short_and_they_are_diffsynths():
    made = codec()
    z = latents(64, 640)
    room = working_bytes(64, 640, 4, tiled=False, kind=KIND) - 1
    (image,) = made.decode(z, room)
    assert made.last.tiled
    want = stock().decode(z, tiled=True, tile_size=512, tile_stride=384)
    assert np.abs(np.asarray(image) - levels(want)).max() <= 1
    picture = Image.effect_noise((64, 640), 90).convert("RGB")
    pixels = torch.from_numpy(np.array(picture.convert("RGBA"), np.float32)).permute(2, 0, 1)[None]
    theirs = stock().encode(pixels * (2 / 255) - 1, tiled=True, tile_size=512, tile_stride=384)
    assert error(made.encode(picture, 64, 640, room), theirs) < 1e-5
    assert made.last.tiled
    list(made.decode(z, room + 1))
    assert not made.last.tiled


def test_latents_of_an_opaque_picture_are_diffsynths():
    colours = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    picture = Image.fromarray(colours)
    pixels = torch.from_numpy(np.array(picture.convert("RGBA"), np.float32)).permute(2, 0, 1)[None]
    got = codec().encode(picture, 96, 64)
    assert got.shape == KIND.latents.of(1, 96, 64)
    assert error(got, stock().encode(pixels * (2 / 255) - 1)) < 1e-5


def test_the_formula_counts_what_the_full_size_decoder_holds_at_once():
    """What was measured, 1586 to 1589 numbers a pixel, is what its channels add up to.

    While the last block's first convolution runs there are its input twice, the shortcut's result,
    the normed input and the output, and copies of that convolution's input and output.
    """
    with skip_model_initialization():
        decoder = QwenImage21VAE().decoder
    first = decoder.up_blocks[-1].resnets[0]
    wide, narrow = first.conv1.in_channels, first.conv1.out_channels
    assert decoder.up_blocks[-1].upsampler is None  # so it works at the picture's size
    assert (wide, narrow) == (288, 144)
    assert 1.0 < 1586 / (4 * wide + 3 * narrow) < 1.01
    assert 1.0 < KIND.bytes_per_pixel / (4 * wide + 3 * narrow) < 1.02
    tile = working_bytes(2048, 2048, 2, tiled=True, kind=KIND)
    assert tile < 0.1 * working_bytes(2048, 2048, 2, tiled=False, kind=KIND)
    assert len(measure(codec(), [(64, 32)])) == 4


def test_previews_have_the_size_of_qwen_images():
    preview = LatentPreview.of(codec())
    assert preview.picture(latents(128, 64)[0]).size == (8, 4)
    assert preview._enlarged == 4


def test_a_size_that_is_no_multiple_is_covered():
    assert KIND.latents.covering(1344, 784) == (1344, 800)
    assert KIND.latents.covering(1024, 1024) == (1024, 1024)
