"""LoRA files from a folder, through the real child: on for one job, off for the next."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from bot.engine.frames import FrameError
from bot.engine.protocol import EngineRequest, Step
from bot.engine.stream.layout import Geometry
from bot.engine.stream.lora_files import LoraFiles
from bot.engine.tiny.model import TRAINED
from bot.engine.wire import read_request, request_fields
from bot.errors import EngineError, EngineErrorKind
from tests.engine.kit import draw, draw_well, request
from tests.stream.kit import predicted, streamed

pytestmark = [pytest.mark.engine, pytest.mark.asyncio(loop_scope="session"), pytest.mark.slow]


def lora_file(path, width=TRAINED.width, layers=TRAINED.layers, seed=3) -> None:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for index in range(layers):
        for target in ("attn.to_q", "attn.to_v", "attn.to_out.0"):
            name = f"transformer_blocks.{index}.{target}"
            state[f"{name}.lora_A.weight"] = torch.randn(4, width, generator=generator)
            state[f"{name}.lora_B.weight"] = torch.randn(width, 4, generator=generator)
    save_file(state, path)


def changed_file(path, ending, value) -> None:
    """A LoRA with further tensors of this ending, or with this number in all that have it."""
    lora_file(path)
    state = load_file(path)
    there = [key for key in state if key.endswith(ending)]
    for key in there or [key.replace(".lora_A.weight", ending) for key in state if "lora_A" in key]:
        state[key] = torch.full_like(state[key], float(value)) if there else value.clone()
    save_file(state, path)


async def drawn(engine, folder, **changes) -> bytes:
    await draw_well(engine, request(folder, "a boat", seeds=(5,), **changes))
    return (folder / "0.png").read_bytes()


async def test_one_job_has_it_and_the_next_one_not(warm_tiny, lora_folder, tmp_path) -> None:
    lora_file(lora_folder / "style.safetensors")
    pid = warm_tiny.pid
    plain = await drawn(warm_tiny, tmp_path)
    styled = await drawn(warm_tiny, tmp_path, loras=(("style", 1.0),))
    weak = await drawn(warm_tiny, tmp_path, loras=(("style", 0.3),))
    assert len({plain, styled, weak}) == 3
    assert await drawn(warm_tiny, tmp_path) == plain
    assert await drawn(warm_tiny, tmp_path, loras=(("style", 1.0),)) == styled
    assert warm_tiny.pid == pid


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gone", "There is no LoRA gone; there are "),
        ("../style", "There is no LoRA ../style"),
        ("cut", "The file cut.safetensors is damaged or cannot be read."),
        ("wide", "The LoRA wide is made for another model."),
        ("other", "The LoRA other is made for FLUX, not for Qwen-Image."),
        ("dora", "The LoRA dora is of a kind that is not supported, DoRA; only plain LoRAs are."),
        ("nan", "The LoRA nan is damaged: transformer_blocks.0.attn.to_out.0.lora_A.weight holds"),
        ("flat", "The LoRA flat is damaged: the tensors of transformer_blocks.0.attn.to_q do not"),
        ("loud", "With the LoRA loud the model's numbers overflow, so there is no picture; a"),
    ],
)
async def test_what_is_no_lora_is_a_sentence(
    warm_tiny, lora_folder, tmp_path, name, sentence
) -> None:
    (lora_folder / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    lora_file(lora_folder / "wide.safetensors", width=2 * TRAINED.width)
    save_file({"double_blocks.0.lora_A.weight": torch.ones(4)}, lora_folder / "other.safetensors")
    changed_file(lora_folder / "dora.safetensors", ".lora_magnitude_vector", torch.ones(128))
    changed_file(lora_folder / "nan.safetensors", ".lora_A.weight", torch.nan)
    changed_file(lora_folder / "loud.safetensors", ".lora_B.weight", torch.tensor(3e38))
    flat = {f"transformer_blocks.0.attn.to_q.lora_{side}.weight": torch.ones(4) for side in "AB"}
    save_file(flat, lora_folder / "flat.safetensors")
    pid = warm_tiny.pid
    with pytest.raises(EngineError) as caught:
        await draw(warm_tiny, request(tmp_path, loras=((name, 1.0),)))
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence.startswith(sentence)
    assert str(lora_folder) not in caught.value.sentence
    assert not list(tmp_path.glob("*.png"))
    await drawn(warm_tiny, tmp_path)
    assert warm_tiny.pid == pid


async def test_a_replaced_file_counts(tmp_path) -> None:
    dit, shelf = streamed(), LoraFiles(tmp_path)
    geometry: Geometry = dit.geometry
    found = []
    for seed in (1, 2):
        lora_file(tmp_path / "a.safetensors", geometry.dim, geometry.layers, seed)
        dit.use(shelf.take([("a", 1.0)]))
        found.append(predicted(dit))
    assert not torch.equal(*found)


async def test_strengths_share_one_map_of_the_file(tmp_path) -> None:
    dit, shelf = streamed(), LoraFiles(tmp_path)
    lora_file(tmp_path / "a.safetensors", dit.geometry.dim, dit.geometry.layers)
    weak, full = (shelf.take([("a", strength)])[0] for strength in (0.5, 1.0))
    assert weak.blocks
    assert weak.name != full.name
    for key, pair in weak.blocks.items():
        other = full.blocks[key]
        assert pair.scale == other.scale / 2
        assert pair.down.data_ptr() == other.down.data_ptr()
        assert pair.up.data_ptr() == other.up.data_ptr()


async def test_the_lightning_settings_draw_with_its_file_and_another_one(
    warm_tiny, lora_folder, tmp_path
) -> None:
    lora_file(lora_folder / "fast.safetensors", seed=4)
    lora_file(lora_folder / "ink.safetensors", seed=5)
    settings = {"steps": 4, "guidance": 1.0, "loras": (("fast", 1.0),)}
    plain = await drawn(warm_tiny, tmp_path, **settings)
    shifted = await drawn(warm_tiny, tmp_path, **settings, shift=3.0)
    both = {**settings, "loras": (("fast", 1.0), ("ink", 0.5))}
    combined = await drawn(warm_tiny, tmp_path, **both, shift=3.0)
    assert len({plain, shifted, combined}) == 3
    events = await draw_well(warm_tiny, request(tmp_path, steps=1, guidance=1.0, shift=3.0))
    assert [event.total for event in events if isinstance(event, Step)] == [1]
    assert await drawn(warm_tiny, tmp_path, **settings, shift=3.0) == shifted


async def test_the_way_to_the_child_loses_nothing(tmp_path) -> None:
    wanted: EngineRequest = request(tmp_path, loras=(("a b", 0.25), ("c", -1.0)), shift=3.0)
    assert read_request(json.loads(json.dumps(request_fields(wanted)))) == wanted


@pytest.mark.parametrize("shift", [0.0, -1.0, float("inf"), float("nan"), "3", True, [3]])
async def test_a_shift_that_is_none_is_refused(tmp_path, shift) -> None:
    with pytest.raises(FrameError, match="shift"):
        read_request(request_fields(request(tmp_path)) | {"shift": shift})
