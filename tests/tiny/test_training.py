"""Training at toy size, and that what is trained is what DiffSynth's networks compute."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from diffsynth.pipelines.qwen_image import model_fn_qwen_image

    from bot.engine.tiny import model as tiny
    from bot.engine.tiny import stored
    from bot.engine.tiny.tokenizer import ByteTokenizer
    from bot.lab.tiny.train import flow, report
    from bot.lab.tiny.train.__main__ import main
    from bot.lab.tiny.train.autoencoder import normalise
    from bot.lab.tiny.train.networks import Painter, trained_vae
    from bot.lab.tiny.train.optimizers import orthogonal
    from bot.lab.tiny.train.options import parse
    from bot.lab.tiny.train.plan import Plan
    from bot.lab.tiny.train.store import read_parts

from bot.engine.stream.prompts import PromptEmbedder

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def painter():
    torch.manual_seed(0)
    made = Painter().requires_grad_(requires_grad=False)
    for parameter in made.parameters():
        parameter.add_(0.03 * torch.randn(parameter.shape))
    return made


@torch.no_grad()
@pytest.mark.slow
def test_the_trained_form_is_the_pipelines_network(painter) -> None:
    """Prompts of unequal lengths in one batch, each as the pipeline computes it alone."""
    state = painter.state_dict()
    dit, encoder = tiny.TinyDiT(tiny.TRAINED), tiny.TinyTextEncoder(tiny.TRAINED).eval()
    stored.expand(state, "transformer.", dit)
    stored.expand(state, "text_encoder.", encoder)
    prompts = ["a red circle", "", "蓝色的月亮"]
    latents = torch.randn(3, 16, 8, 12)
    sigma = torch.tensor([0.9, 0.5, 0.02])
    got = flow.predict(painter, latents, sigma, *flow.caption_ids(prompts))
    embedded = PromptEmbedder(ByteTokenizer(), encoder, model="test").embed(prompts)
    for row, text in enumerate(embedded):
        want = model_fn_qwen_image(
            dit=dit,
            latents=latents[row : row + 1],
            timestep=1000 * sigma[row : row + 1],
            prompt_emb=text[None],
            prompt_emb_mask=torch.ones(1, len(text), dtype=torch.long),
            height=64,
            width=96,
        )
        assert want.std() > 0.1
        torch.testing.assert_close(got[row], want[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@torch.no_grad()
def test_a_normalised_vae_decodes_as_before_and_expands_to_the_real_one() -> None:
    torch.manual_seed(0)
    vae = trained_vae()
    pictures = torch.rand(3, 3, 64, 48) * 2 - 1
    latents = vae.encode(pictures)
    decoded = vae.decode(latents)
    normalise(vae, latents)
    after = vae.encode(pictures)
    assert after.mean((0, 2, 3)).abs().max() < 1e-4
    assert (after.std((0, 2, 3)) - 1).abs().max() < 1e-4
    torch.testing.assert_close(vae.decode(after), decoded, rtol=1e-3, atol=1e-4)

    real = tiny.TinyVAE(tiny.TRAINED)
    stored.expand(vae.state_dict(), "", real)
    torch.testing.assert_close(real.encode(pictures), after, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(real.decode(after), decoded, rtol=1e-3, atol=1e-4)


def test_updates_are_nearly_orthogonal() -> None:
    torch.manual_seed(0)
    for shape in ((2, 32, 96), (2, 96, 32)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)).float())
        assert 0.5 < values.min() < values.max() < 1.3


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_and_its_continuation(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "SAMPLES", report.SAMPLES[:2])  # of many, which take their time
    options = ["--device", "cpu", "--workers", "1", "--vae-steps", "2", "--vae-batch", "2"]
    options += ["--steps", "2", "--batch", "2", "--pixels", "64", "--scenes", "64"]
    options += ["--odd-share", "0", "--seed", "3", "--no-half"]
    first, second = tmp_path / "first", tmp_path / "second"
    kept = ["--state", str(tmp_path / "state")]
    main([*options, *kept, "--out", str(first)])
    main(
        [
            *options,
            "--out",
            str(second),
            "--resume",
            str(first),
            "--anneal",
            "1",
            "--vae-steps",
            "0",
            "--vae-seconds",
            "0",
        ]
    )
    one, other = (read_parts(folder, "average") for folder in (first, second))
    assert one.keys() == other.keys()
    moved = {name.split(".")[0] for name in one if not torch.equal(one[name], other[name])}
    assert moved == {"transformer", "text_encoder"}, "the VAE is trained once"
    main([*options, *kept, "--out", str(first)])
    third = read_parts(first, "average")
    moved = {name.split(".")[0] for name in one if not torch.equal(one[name], third[name])}
    assert moved == {"transformer", "text_encoder"}, "the VAE is trained once"
    for folder in (first, second):
        assert [step for step, _ in flow_curves(folder)] == [2, 4]
    assert (second / "samples.png").exists()
    assert_pipeline_draws(second)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_style_is_trained_and_nothing_else(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(report, "SAMPLES", report.SAMPLES[:2])
    options = ["--style", "ink", "--device", "cpu", "--workers", "1", "--no-half"]
    options += ["--steps", "3", "--batch", "2", "--scenes", "64", "--odd-share", "0"]
    main([*options, "--style-rank", "4", "--warm-up", "1", "--out", str(tmp_path)])
    pairs = stored.read_style("ink", tmp_path)
    blocks = {name.split(".")[2] for name in pairs}
    assert blocks == {str(index) for index in range(tiny.TRAINED.layers)}
    assert {name.rpartition(".")[2] for name in pairs} == {"up", "down"}
    assert {min(tensor.shape) for tensor in pairs.values()} == {4}
    moved = [tensor.abs().max() > 0 for name, tensor in pairs.items() if name.endswith(".up")]
    assert all(moved)
    assert [step for step, _ in flow_curves(tmp_path)] == [3]
    assert (tmp_path / "samples.png").exists()


@torch.no_grad()
def assert_pipeline_draws(folder) -> None:
    """The run's files in the real pipeline give the picture that training's sampler gives."""
    pipe = tiny.assemble(lambda *_: None, folder)
    state = read_parts(folder, "average")
    painter, vae = Painter(), trained_vae()
    painter.load_state_dict({k: v for k, v in state.items() if "vae." not in k}, strict=False)
    vae.load_state_dict({k.removeprefix("vae."): v for k, v in state.items() if "vae." in k})
    options = {"steps": 3, "guidance": 4.0, "seed": 5}
    want = vae.decode(flow.sample(painter, ["a boat"], (96, 64), **options))
    got = pipe(
        prompt="a boat", negative_prompt="", cfg_scale=4.0, seed=5, num_inference_steps=3,
        width=96, height=64, progress_bar_cmd=lambda x: x,
    )  # fmt: skip
    wanted = ((want[0].permute(1, 2, 0) + 1) * 127.5).clip(0, 255)
    assert np.abs(np.asarray(got, np.float32) - wanted.numpy()).max() <= 1.5
    assert wanted.std() > 1


def flow_curves(folder):
    from bot.lab.tiny.train.report import read_curves

    return read_curves(folder / "curves.json")["transformer"]


def test_options_are_the_fields_of_the_plan(tmp_path) -> None:
    options = ["--out", str(tmp_path), "--no-compiled", "--resume", "x", "--rate", "0.5"]
    plan = parse(Plan, options, "train", None)
    assert (plan.compiled, str(plan.resume), plan.rate) == (False, "x", 0.5)
