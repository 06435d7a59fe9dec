"""Joint training at toy size, and that what is trained is what the engine computes of an edit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from diffsynth.pipelines.qwen_image import model_fn_qwen_image

    from bot.engine.stream.encoder import StreamedTextEncoder
    from bot.engine.stream.vision import StreamedVisionTower
    from bot.engine.tiny import model as tiny
    from bot.engine.tiny import stored
    from bot.engine.tiny.tokenizer import EDIT_PREFIX_IDS, PAD_ID, ByteTokenizer
    from bot.lab.tiny.train import flow, report
    from bot.lab.tiny.train.joint import objectives, prompts, samples, seeing
    from bot.lab.tiny.train.joint.__main__ import main
    from bot.lab.tiny.train.joint.networks import JointNetworks
    from bot.lab.tiny.train.store import in_eight_bits, read_parts, write_parts

from bot.engine.stream.device import Device
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.storage import Storage
from bot.engine.stream.vision_picture import vision_picture
from bot.lab.tiny.train.scenes.language import Exchange

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def networks():
    torch.manual_seed(0)
    made = JointNetworks().requires_grad_(requires_grad=False).eval()
    for parameter in made.parameters():
        parameter.add_(0.03 * torch.randn(parameter.shape))
    return made


def pictures(count: int) -> torch.Tensor:
    small = np.random.default_rng(1).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    large = [np.asarray(Image.fromarray(one).resize((224, 224))) for one in small]
    return torch.from_numpy(np.stack(large)).permute(0, 3, 1, 2).contiguous()


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2])
def test_an_edit_is_trained_as_the_engine_and_the_pipeline_compute_it(networks, count) -> None:
    """One and two pictures, instructions of unequal lengths in a batch, references of odd size."""
    texts = ["make it red", "把圆形变成蓝色"]
    seen = pictures(count)
    rows = objectives.seen_states(networks, seen, objectives.Layers())
    ids = torch.from_numpy(np.stack([prompts.instruction_ids(one, count) for one in texts])).long()
    both = rows.flatten(0, 1).expand(2, -1, -1)
    states = objectives.read_states(networks, ids, both, objectives.Layers())

    encoder = networks.text_encoder
    streamed = StreamedTextEncoder.from_module(
        encoder, Device(), torch.float32, storage=Storage.PLAIN
    )
    streamed.vision = StreamedVisionTower.from_module(
        encoder, streamed.device, torch.float32, streamed.streamer
    )
    looked = [vision_picture(Image.fromarray(one.permute(1, 2, 0).numpy())) for one in seen]
    wanted = PromptEmbedder(ByteTokenizer(), streamed, model="test").embed(texts, pictures=looked)

    dit = tiny.TinyDiT(tiny.TRAINED)
    stored.expand(networks.state_dict(), stored.EDITOR, dit)
    latents, sigma = torch.randn(2, 16, 4, 6), torch.tensor([0.9, 0.3])
    references = [torch.randn(2, 16, 6, 4), torch.randn(2, 16, 4, 4)][:count]
    text, counts = states[:, EDIT_PREFIX_IDS:], (ids != PAD_ID)[:, EDIT_PREFIX_IDS:]
    got = flow.velocity(networks.editor, latents, references, sigma, text, counts, flow.joint_block)
    for row, want in enumerate(wanted):
        torch.testing.assert_close(text[row, : len(want)], want, rtol=1e-3, atol=1e-4)
        drawn = model_fn_qwen_image(
            dit=dit,
            latents=latents[row : row + 1],
            timestep=1000 * sigma[row : row + 1],
            prompt_emb=want[None],
            prompt_emb_mask=torch.ones(1, len(want), dtype=torch.long),
            height=32,
            width=48,
            edit_latents=[one[row : row + 1] for one in references],
            zero_cond_t=True,
        )
        assert drawn.std() > 0.1
        torch.testing.assert_close(got[row], drawn[0], rtol=1e-3, atol=1e-4)


def test_what_guidance_leaves_out_is_the_instruction_alone(monkeypatch) -> None:
    monkeypatch.setattr(objectives, "DROPPED", 1.0)
    ids, empty = (
        torch.from_numpy(prompts.instruction_ids(text, 2)).long()[None]
        for text in ("add a cat", "")
    )
    assert not torch.equal(ids, empty)
    assert torch.equal(objectives.without_instructions(ids, torch.Generator()), empty)


@torch.no_grad()
def test_answers_are_judged_and_nothing_else(networks) -> None:
    """Loss and rightness depend on the states that predict the answer and its end."""
    ids, start = prompts.exchange_ids(Exchange("ask", "Is it red?", "yes"), pictures=0)
    ids = torch.from_numpy(ids).long()[None]
    states = torch.randn(1, ids.shape[1], 128)
    before, _ = objectives.writing_loss(networks, states, ids, torch.tensor([start]))
    outside = states.clone()
    outside[:, : start - 1] = 0
    outside[:, start + 3 :] = 0
    same, _ = objectives.writing_loss(networks, outside, ids, torch.tensor([start]))
    assert torch.equal(before, same)
    states[:, start + 2] = 0
    assert not torch.equal(
        before, objectives.writing_loss(networks, states, ids, torch.tensor([start]))[0]
    )


@torch.no_grad()
def test_stored_weights_begin_a_run_and_draw_as_before(networks, tmp_path) -> None:
    """New layers are the identity, and the editor begins as what draws."""
    old = {
        name: value
        for name, value in networks.state_dict().items()
        if name.startswith("transformer.")
        or (name.startswith("text_encoder.") and not any(f".{i}." in name for i in (3, 4, 5)))
    }
    table = "text_encoder.model.language_model.embed_tokens.weight"
    old[table] = old[table][:282]
    made = JointNetworks()
    made.take(old)
    assert made.editor.img_in.weight.equal(made.transformer.img_in.weight)
    model = made.text_encoder.model.language_model
    ids = flow.caption_ids(["a red circle"])[0]
    whole = flow.text_states(model, model.embed_tokens(ids), flow.text_layer)
    model.layers = model.layers[:3]
    assert torch.equal(whole, flow.text_states(model, model.embed_tokens(ids), flow.text_layer))


@torch.no_grad()
def test_eight_bits_are_near_and_small(networks, tmp_path) -> None:
    files = write_parts(networks.trained(), tmp_path, "average")
    assert sum(file.stat().st_size for file in files) < 23_000_000
    assert max(file.stat().st_size for file in files) < 16 * 2**20
    back = read_parts(tmp_path, "average")
    assert back.keys() == networks.trained().keys()
    name = "editor.transformer_blocks.1.img_mlp.net.2.weight"
    one, other = networks.trained()[name], back[name]
    steps = one.abs().amax(1, keepdim=True) / 127
    assert ((one - other).abs() / steps).max() < 0.6
    assert {t.dtype for t in in_eight_bits(name, one).values()} == {torch.int8, torch.float16}


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_a_run_and_its_continuations(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "SAMPLES", report.SAMPLES[:1])
    monkeypatch.setattr(samples, "EDITED", 1)
    monkeypatch.setattr(samples, "STEPS", 1)
    options = ["--device", "cpu", "--workers", "1", "--chunk", "2", "--no-half", "--steps", "4"]
    options += ["--draw-batch", "2", "--edit-batch", "2", "--talk-batch", "2", "--warm-up", "1"]
    options += ["--scenes", "4", "--edits", "4", "--pairs", "4"]
    options += ["--save-seconds", "100000"]
    first, second = tmp_path / "first", tmp_path / "second"
    state = ["--state", str(tmp_path / "state")]
    main([*options, *state, "--out", str(first)])
    one, was = read_parts(first, "average"), read_parts(stored.WEIGHTS, "average")
    moved = {name.split(".")[0] for name in one if name in was and not one[name].equal(was[name])}
    assert moved == {"transformer", "editor", "text_encoder"}, "the VAE is the stored one"
    head = "text_encoder.lm_head.weight"
    for name in (head, "text_encoder.model.visual.patch_embed.proj.weight"):
        assert one[name].abs().max() > 0
    assert {"draw", "edit", "pair", "about", "alone"} <= report.read_curves(first / "curves.json")[
        "joint"
    ][-1][1].keys()
    options.append("--no-sheets")  # one run shows them
    main([*options, *state, "--out", str(first)])
    main([*options, "--out", str(second), "--resume", str(first)])
    for folder, steps in ((first, 8), (second, 12)):
        assert report.read_curves(folder / "curves.json")["joint"][-1][0] == steps
        assert (folder / "edits.png").exists() == (folder == first)
    other = read_parts(second, "average")
    assert not other[head].equal(one[head])
    third = tmp_path / "third"
    main([*options, "--editor-only", "--out", str(third), "--resume", str(second)])
    last = read_parts(third, "average")
    kept = {name for name in last if last[name].equal(other[name])}
    assert {name.split(".")[0] for name in last.keys() - kept} == {"editor"}
    carried = [*first.glob("average-*"), first / "curves.json"]
    assert sum(file.stat().st_size for file in carried) < 25_000_000
    pipe = tiny.assemble(lambda *_: None, first)
    assert pipe.text_encoder.lm_head.weight.abs().max() > 0


def test_scenes_are_seen_upright() -> None:
    """What the renderers hand over and what the vision tower takes are the same way up."""
    pixels = torch.zeros(1, 256, 256, 3, dtype=torch.uint8)
    pixels[:, :128] = 255
    small = seeing.shrunk(pixels)
    assert small.shape == (1, 3, 224, 224)
    assert small[:, :, :100].min() > 200
    assert small[:, :, 124:].max() < 50
