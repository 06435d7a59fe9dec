"""DiffSynth's own pipelines of Qwen-Image-2.1 and SDXL over small networks' files, in a child."""

from __future__ import annotations

import hashlib
import importlib
import io
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from bot.engine.models.diffsynth import DiffSynthModel
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Event, Finished, Loading, Picture, Preview, Step
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.kit import Quiet, cancelled_at, draw, draw_well, react, request
from tests.engine.small_models import (
    BUDGET,
    MODULES,
    QWEN,
    SDXL,
    device,
    published_name,
    small,
    write,
)

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine, pytest.mark.slow]
in_a_child = pytest.mark.asyncio(loop_scope="module")
PROMPT = "a lighthouse at night"


@pytest.fixture(scope="module", params=[pytest.param(QWEN, marks=pytest.mark.thorough), SDXL])
def model(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write(model, root)
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(model, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        options = EngineOptions(folder, pipeline="tests.engine.small_models:build")
        running = EngineProcess(model, options=options)
        try:
            yield running
        finally:
            await running.close()


async def drawn(engine, folder, **changes) -> bytes:
    await draw_well(engine, request(folder, changes.pop("prompt", PROMPT), **changes))
    return (folder / "0.png").read_bytes()


@in_a_child
async def test_a_batch_is_loaded_for_reported_and_drawn(engine, model, tmp_path) -> None:
    events = await draw_well(engine, request(tmp_path, PROMPT, steps=3, seeds=(1, 2)))
    parts = {event.stage for event in events if isinstance(event, Loading)}
    assert {"loading the text encoder", "loading the VAE"} <= parts
    assert ("loading the U-Net" in parts) == (model == SDXL)
    assert [e for e in events if isinstance(e, Step)] == [Step(i, 6) for i in range(1, 7)]
    assert [e.seed for e in events if isinstance(e, Picture)] == [1, 2]
    assert isinstance(events[-1], Finished)
    first, second = ((tmp_path / f"{i}.png").read_bytes() for i in range(2))
    assert first != second
    assert await drawn(engine, tmp_path, steps=3, seeds=(2,)) == second


@in_a_child
async def test_every_setting_reaches_the_pipeline(engine, tmp_path) -> None:
    settings = (
        {},
        {"prompt": "a lighthouse at noon"},
        {"negative_prompt": "blurry"},
        {"guidance": 1.0},
        {"steps": 5},
    )
    pictures = {await drawn(engine, tmp_path, **changes) for changes in settings}
    assert len(pictures) == len(settings)


@in_a_child
@pytest.mark.parametrize(("width", "height", "steps"), [(344, 248, 2), (256, 272, 1)])
async def test_a_picture_has_the_size_that_was_asked_for(
    engine, tmp_path, width, height, steps
) -> None:
    await drawn(engine, tmp_path, width=width, height=height, steps=steps)
    with Image.open(tmp_path / "0.png") as image:
        assert (image.size, image.mode) == ((width, height), "RGB")


@in_a_child
async def test_a_transparent_picture_has_an_alpha_channel(engine, model, tmp_path) -> None:
    if model != QWEN:
        pytest.skip(f"{model} draws opaque pictures")
    source = tmp_path / "glass.png"
    Image.new("RGBA", (256, 256), (255, 0, 0, 40)).save(source)
    for begun in ({}, {"input_image": source, "strength": 0.3}):
        await drawn(engine, tmp_path, transparent=True, **begun)
        with Image.open(tmp_path / "0.png") as image:
            assert image.mode == "RGBA"


@in_a_child
async def test_a_picture_to_start_from_and_its_strength_count(engine, tmp_path) -> None:
    pictures = {await drawn(engine, tmp_path)}
    for colour in ("red", "blue"):
        source = tmp_path / f"{colour}.png"
        Image.new("RGB", (100, 301), colour).save(source)
        for strength in (0.3, 0.8):
            pictures.add(await drawn(engine, tmp_path, input_image=source, strength=strength))
    assert len(pictures) == 5
    # What the last one started from is forgotten.
    assert await drawn(engine, tmp_path) in pictures


@in_a_child
async def test_a_lora_is_refused_in_a_sentence(engine, model, tmp_path) -> None:
    with pytest.raises(EngineError) as caught:
        await draw(engine, request(tmp_path, loras=(("style", 1.0),)))
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert (
        caught.value.sentence
        == {
            QWEN: "LoRAs work with IMAGE_OFFLOAD=stream only.",
            SDXL: "This model draws without LoRAs.",
        }[model]
    )


@in_a_child
async def test_previews_are_small_jpegs_of_what_is_drawn(engine, model, tmp_path) -> None:
    events = await draw_well(engine, request(tmp_path, PROMPT, steps=8, seeds=(1, 2)))
    shown = [event for event in events if isinstance(event, Preview)]
    if model == QWEN:  # as a reference only: the streaming engine shows them
        assert not shown
        return
    assert [preview.step for preview in shown] == [2, 4, 6, 8, 10, 12, 14]
    sizes, colours = [], set()
    for preview in shown:
        with Image.open(io.BytesIO(preview.data)) as image:
            image.load()
            assert image.format == "JPEG"
            sizes.append(image.size)
            colours.add(image.tobytes())
    # An eighth of each side, twice as large; the second picture beside the first.
    assert sizes == [(64, 64)] * 4 + [(128, 64)] * 3
    assert len(colours) == 7


@in_a_child
async def test_cancel_acts_at_a_preview(engine, model, tmp_path) -> None:
    if model == QWEN:
        pytest.skip("DiffSynth's pipeline of Qwen-Image-2.1 shows none")
    steps: list[int] = []
    cancelled = 0

    async def on_event(event: Event) -> None:
        nonlocal cancelled
        if isinstance(event, Step):
            steps.append(event.index)
        if isinstance(event, Preview) and not cancelled:
            cancelled = event.step
            await engine.cancel("job1")

    await engine.load()
    pid = engine.pid
    with pytest.raises(GenerationCancelled):
        await react(engine, request(tmp_path, PROMPT, steps=100), on_event)
    assert cancelled == 13 <= steps[-1] < 60
    await drawn(engine, tmp_path)
    assert engine.pid == pid


@in_a_child
@pytest.mark.parametrize("masked", [True, False])
async def test_a_part_of_a_picture_is_refused_in_a_sentence(
    engine, model, tmp_path, masked
) -> None:
    source = tmp_path / "source.png"
    Image.new("RGB", (256, 256), "white").save(source)
    part = {"mask": source} if masked else {"place": (0, 0, 128, 256)}
    with pytest.raises(EngineError) as caught:
        await draw(engine, request(tmp_path, input_image=source, **part))
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert (
        caught.value.sentence
        == {
            QWEN: "A part of a picture is redrawn with IMAGE_OFFLOAD=stream only.",
            SDXL: "This model draws whole pictures only.",
        }[model]
    )


@in_a_child
async def test_cancel_acts_at_the_next_step(engine, tmp_path) -> None:
    await engine.load()
    pid = engine.pid
    assert 2 <= await cancelled_at(2, engine, request(tmp_path, PROMPT, steps=100)) < 50
    await drawn(engine, tmp_path)
    assert engine.pid == pid


def assembled(model: str, root: Path):
    from bot.engine.files.find import ensure

    module = importlib.import_module(MODULES[model])
    files = ensure(root, lambda *_: None, repository=model)
    with small():
        return module.assemble(files, device(), lambda: BUDGET, lambda *_: None, exact=False)


def test_the_first_latents_lie_between_the_picture_and_noise(model, folder) -> None:
    import torch

    adapted = assembled(model, folder)
    start, pipe = adapted._start, adapted._pipe
    start.picture, start.steps = Image.new("RGB", (256, 256), "red"), 10
    channels, side = (64, 16) if model == QWEN else (4, 32)
    noise = torch.randn(1, channels, side, side, dtype=torch.bfloat16).to(device())
    with small(), torch.no_grad():
        pixels = pipe.preprocess_image(start.picture.convert(start._mode))
        pipe.load_models_to_device(["vae"])
        picture = start._encode(pipe, pixels)
        far = []
        for strength in (0.1, 0.5, 1.0):
            adapted._strength = strength
            latents = start.process(pipe, noise=noise)["latents"]
            far.append(float((latents - noise).norm() / (picture - noise).norm()))
    assert 1 > far[0] > far[1] > far[2]
    assert far[2] < 0.2


def test_what_a_preview_shows_of_the_last_step_is_what_is_decoded(model, folder) -> None:
    import torch

    adapted = assembled(model, folder)
    shown, decoded = [], []
    vae, scale = adapted.stock.vae, getattr(adapted.stock.vae, "scaling_factor", None)
    decode = vae.decode
    vae.decode = lambda latents, **options: (decoded.append(latents), decode(latents, **options))[1]
    with small():
        adapted(
            prompt=PROMPT, negative_prompt="", cfg_scale=1.0, width=256, height=256, seed=1,
            num_inference_steps=3, input_image=None, denoising_strength=1.0,
            progress_bar_cmd=iter, on_latents=shown.append,
        )  # fmt: skip
    assert len(shown) == 3
    if scale is not None:  # Qwen-Image-2.1's are still in tokens.
        torch.testing.assert_close(
            shown[-1].float() / scale, decoded[0].float(), rtol=2e-2, atol=0.1
        )
        assert not torch.allclose(shown[0], shown[-1], atol=0.5)


def test_numbers_that_are_none_are_no_picture(model, folder, tmp_path, monkeypatch) -> None:
    adapted = assembled(model, folder)
    monkeypatch.setattr(importlib.import_module(MODULES[model]), "load", lambda *_: (adapted, 14.0))
    backend = DiffSynthModel(model, EngineOptions(folder))
    backend.load(lambda *_: None)
    with small():
        assert len(list(backend.generate(request(tmp_path, steps=2), Quiet()))) == 1
        for parameter in adapted.stock.vae.parameters():
            parameter.data.fill_(float("nan"))
        with pytest.raises(EngineError) as caught:
            list(backend.generate(request(tmp_path, steps=2), Quiet()))
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence == "The model's numbers overflowed, so there is no picture."


def test_fp8_storage_draws_nearly_the_same(model, folder, monkeypatch) -> None:
    import numpy as np
    import torch

    from bot.engine.models import networks

    def pixels() -> np.ndarray:
        adapted = assembled(model, folder)
        with small():
            image = adapted(
                prompt=PROMPT, negative_prompt="", cfg_scale=1.0, width=256, height=256, seed=1,
                num_inference_steps=2, input_image=None, denoising_strength=1.0,
                progress_bar_cmd=iter,
            )  # fmt: skip
        return np.asarray(image, np.float32)

    exact = pixels()
    kept = networks.Store(torch.float8_e4m3fn, resident=False, limit_gib=None)
    monkeypatch.setattr(networks, "store", lambda *_, exact: kept if not exact else plain)
    plain = networks.Store(torch.bfloat16, resident=True, limit_gib=None)
    rough = pixels()
    assert 0 < np.abs(rough - exact).mean() < 30


@pytest.mark.parametrize(
    ("gib", "budget", "exact", "found"),
    [
        (5, 14.0, False, ("bfloat16", True, None)),
        (13.3, 14.0, False, ("float8_e4m3fn", True, None)),
        (13.3, 16.0, False, ("bfloat16", True, None)),
        (13.3, 14.0, True, ("bfloat16", False, 12.0)),
        (17, 8.0, False, ("float8_e4m3fn", False, 6.0)),
    ],
)
def test_what_fits_the_budget_is_kept_exact(gib, budget, exact, found) -> None:
    from bot.engine.models.networks import store

    kept = store(int(gib * 2**30), budget, exact=exact)
    assert (str(kept.dtype).removeprefix("torch."), kept.resident, kept.limit_gib) == found


def test_files_of_another_model_are_named(tmp_path) -> None:
    write(SDXL, tmp_path)
    folder = tmp_path / SDXL
    other = folder / "text_encoder" / "model.fp16.safetensors"
    (folder / "vae" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(EngineError) as caught:
        assembled(SDXL, tmp_path)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    assert "The files in vae are another model's" in caught.value.sentence


def test_sdxl_reads_prompts_as_transformers_do() -> None:
    import torch
    from diffsynth.models.stable_diffusion_xl_text_encoder import SDXLTextEncoder2
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from bot.engine.models.sdxl import mend_pooling

    shape = {
        "hidden_size": 32, "intermediate_size": 64, "projection_dim": 32, "vocab_size": 600,
        "num_hidden_layers": 3, "num_attention_heads": 2, "hidden_act": "gelu",
    }  # fmt: skip
    torch.manual_seed(0)
    theirs = CLIPTextModelWithProjection(CLIPTextConfig(**shape, eos_token_id=599)).eval()
    ours = SDXLTextEncoder2(**shape).eval()
    stock = SDXLTextEncoder2(**shape).eval()
    mend_pooling(ours)
    names = set(ours.state_dict())
    for each in (ours, stock):
        each.load_state_dict({f"model.{k}": v for k, v in theirs.state_dict().items()})
    assert names == {f"model.{k}" for k in theirs.state_dict()}
    ids = torch.tensor([[598, 5, 9, 7, 599, 599], [598, 1, 599, 0, 0, 0]])
    with torch.no_grad():
        wanted = theirs(ids, output_hidden_states=True)
        pooled, hidden = ours(ids)
        first, states = stock(ids)
    torch.testing.assert_close(pooled, wanted.text_embeds, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(hidden[-2], wanted.hidden_states[-2], atol=1e-5, rtol=1e-4)
    # DiffSynth's own is as it was, for whoever else uses it.
    torch.testing.assert_close(states[-1], hidden[-1])
    assert not torch.allclose(first, pooled, atol=1e-2), "DiffSynth pools right: no mending needed"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_the_networks_have_the_names_and_shapes_of_the_published_files(name) -> None:
    """DiffSynth knows the published files by a hash of both; transformers may rename a layer."""
    from diffsynth.configs import MODEL_CONFIGS
    from diffsynth.core.loader.file import convert_keys_dict_to_single_str
    from diffsynth.core.vram.initialization import skip_model_initialization
    from diffsynth.models.model_loader import ModelPool

    wrong = []
    for network in importlib.import_module(MODULES[name])._KNOWN.values():
        entry = next(one for one in MODEL_CONFIGS if one["model_name"] == network)
        made = ModelPool().import_model_class(entry["model_class"])
        with skip_model_initialization():
            state = made(**entry.get("extra_kwargs", {})).state_dict()
        shapes = {published_name(network, key): list(value.shape) for key, value in state.items()}
        found = hashlib.md5(convert_keys_dict_to_single_str(shapes).encode()).hexdigest()
        if found != entry["model_hash"]:
            wrong.append(network)
    assert not wrong
