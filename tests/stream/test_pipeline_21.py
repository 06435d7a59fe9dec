"""A whole picture of Qwen-Image-2.1, streamed, against DiffSynth's pipeline, small and random."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from diffsynth.models.qwen_image_21_dit import QwenImage21DiT
    from diffsynth.models.qwen_image_21_text_encoder import QwenImage21TextEncoder
    from diffsynth.models.qwen_image_21_vae import QwenImage21VAE
    from diffsynth.pipelines.qwen_image_21 import (
        QwenImage21Pipeline,
        QwenImage21Unit_InputImageEmbedder,
    )
    from diffsynth.utils.lora.general import GeneralLoRALoader

from PIL import Image

from bot.catalogue.lora_layers import QWEN_IMAGE_21
from bot.engine.card_budget import Bound, CardBudget
from bot.engine.child.inputs import flattened
from bot.engine.child.references import Reference, drawn_sizes, read_reference
from bot.engine.models import qwen_image_21
from bot.engine.models.adapted import Adapted, StartingLatents
from bot.engine.models.on_card import NetworksOnCard
from bot.engine.stream.budget import Work
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.denoise import DenoiseInputs, denoise
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.layout import Precision
from bot.engine.stream.lora import parse
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.prompts_21 import places_21, read_edit_21, read_qwen_image_21
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.single_stream import SingleStream
from bot.engine.stream.slim_vae import slim
from bot.engine.stream.storage import Storage
from bot.engine.stream.text_layout import QWEN3
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.vae_kind import QWEN_IMAGE_21_VAE
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.stream.vision_kind import VISION3
from bot.engine.stream.vision_picture import vision_picture
from bot.errors import EngineError
from tests.engine.small_models import TEXT, WIDTHS, _write_processor
from tests.stream.kit import budget_for, error

WIDTH, HEIGHT, STEPS = 160, 96, 3
PROMPT, NEGATIVE = "a cat on a mat, in oil", "fog"

pytestmark = pytest.mark.slow


class Kept(QwenImage21VAE):
    """Remembers what it decoded last."""

    def decode(self, z, **options):
        self.latents = z
        return super().decode(z, **options)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    from transformers import AutoProcessor

    folder = tmp_path_factory.mktemp("words") / "processor"
    _write_processor(folder)
    return AutoProcessor.from_pretrained(str(folder))


def networks() -> dict[str, Any]:
    """The same ones at each call."""
    qwen_image_21.mend_attention()
    torch.set_num_threads(1)
    torch.manual_seed(3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(QwenImage21TextEncoder, "QWEN_IMAGE_21_TEXT_ENCODER_CONFIG", TEXT)
        made = {
            "dit": QwenImage21DiT(**WIDTHS["qwen_image_21_dit"]),
            "text_encoder": QwenImage21TextEncoder(),
            "vae": Kept(**WIDTHS["qwen_image_21_vae"]),
        }
    return {k: one.eval().requires_grad_(requires_grad=False) for k, one in made.items()}


def pipeline(words) -> QwenImage21Pipeline:
    pipe: Any = QwenImage21Pipeline(device="cpu", torch_dtype=torch.float32)
    for name, network in networks().items():
        setattr(pipe, name, network)
    pipe.processor = words
    return pipe


def stock(
    pipe, guidance: float = 1.0, seed: int = 5, **options: Any
) -> tuple[torch.Tensor, Image.Image]:
    image = pipe(
        prompt=PROMPT, negative_prompt=NEGATIVE, cfg_scale=guidance, width=WIDTH, height=HEIGHT,
        seed=seed, num_inference_steps=STEPS, progress_bar_cmd=lambda steps: steps, **options,
    )  # fmt: skip
    return pipe.vae.latents, image


class Streamed:
    """The streamed engine's parts of the same networks."""

    def __init__(self, words, precision: Precision = Precision.PLAIN) -> None:
        made = networks()
        encoder = made["text_encoder"]
        work = Work(WIDTH, HEIGHT, 1, (42, 24))
        settings = TransformerSettings(precision=precision, dtype=torch.float32, usual=work)
        self.dit = StreamedDiT.from_module(made["dit"], settings, SingleStream)
        text = StreamedTextEncoder.from_module(
            SimpleNamespace(model=encoder.model.model, config=encoder.config),
            Device(),
            torch.float32,
            storage=Storage.PLAIN,
            family=QWEN3,
        )
        text.vision = StreamedVisionTower.from_module(
            encoder.model, Device(), torch.float32, text.streamer, VISION3
        )
        self.embedder = PromptEmbedder(
            words.tokenizer,
            text,
            model="small",
            read=read_qwen_image_21,
            read_edit=read_edit_21,
            places=places_21,
        )
        slim(made["vae"])
        self.codec = PictureCodec(made["vae"], Device(), torch.float32, QWEN_IMAGE_21_VAE)

    def latents(self, guidance: float = 1.0, seeds: tuple[int, ...] = (5,), **changes: Any):
        pictures: list[Reference] = changes.pop("pictures", [])
        looked = [vision_picture(one.seen, VISION3) for one in pictures]
        positive, negative = self.embedder.embed([PROMPT, NEGATIVE], pictures=looked)
        changes |= {
            "references": tuple(
                self.codec.encode(one.picture, *one.picture.size, alpha=True) for one in pictures
            ),
            "places": self.embedder.places(len(pictures)),
        }
        inputs = DenoiseInputs(
            positive=positive, negative=negative, seeds=seeds, width=WIDTH, height=HEIGHT,
            steps=STEPS, guidance=guidance, **changes,
        )  # fmt: skip
        return denoise(self.dit, inputs)


SHAPES = {"wide": (400, 150), "tall": (60, 330), "clear": (90, 90)}


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> dict[str, Path]:
    """Pictures to refer to, of several shapes; the last is partly transparent."""
    folder = tmp_path_factory.mktemp("shown")
    random = np.random.default_rng(4)
    found = {}
    for name, (width, height) in SHAPES.items():
        small = random.integers(0, 256, (9, 9, 4 if name == "clear" else 3), dtype=np.uint8)
        found[name] = folder / f"{name}.png"
        Image.fromarray(small).resize((width, height)).save(found[name])
    return found


def referred(shown, count: int) -> list[Reference]:
    return [read_reference(path, drawn_sizes(WIDTH, HEIGHT)) for path in [*shown.values()][-count:]]


@pytest.mark.parametrize(("count", "guidance"), [(1, 1.0), (1, 3.0), (3, 3.0)])
def test_an_edit_is_the_pipelines(words, shown, count, guidance):
    """Files as they come: of any shape, the last one with transparency."""
    paths = [*shown.values()][-count:]
    exact, image = stock(pipeline(words), guidance, edit_image=[Image.open(one) for one in paths])
    made = Streamed(words)
    latents = made.latents(guidance, pictures=referred(shown, count))
    assert error(latents, exact) < 2e-5
    (clear,) = made.codec.decode(latents, alpha=True)
    assert apart(clear, image) <= 1
    assert error(made.latents(guidance), exact) > 1e-3


def apart(one: Image.Image, other: Image.Image) -> int:
    return int(np.abs(np.asarray(one).astype(int) - np.asarray(other)).max())


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_picture_is_the_pipelines(words, guidance):
    exact, image = stock(pipeline(words), guidance)
    made = Streamed(words)
    latents = made.latents(guidance)
    assert error(latents, exact) < 1e-5
    (drawn,) = made.codec.decode(latents)
    assert drawn.size == image.size == (WIDTH, HEIGHT)
    assert apart(drawn, flattened(image)) <= 1  # theirs is cut off, ours is rounded
    (clear,) = made.codec.decode(latents, alpha=True)
    assert clear.mode == image.mode == "RGBA"
    assert np.asarray(clear)[..., 3].std() > 1
    assert apart(clear, image) <= 1


def test_a_batch_is_its_single_pictures(words):
    made, pipe = Streamed(words), pipeline(words)
    batch = made.latents(seeds=(5, 6))
    for one, seed in zip(batch.split(1), (5, 6), strict=True):
        assert error(one, stock(pipe, seed=seed)[0]) < 1e-5


@pytest.mark.parametrize("strength", [0.4, 0.8])
def test_a_picture_to_start_from_is_taken_as_by_diffsynths_parts(words, strength):
    pipe: Any = pipeline(words)
    start = StartingLatents(qwen_image_21._encode, "RGBA")
    source = Image.effect_noise((WIDTH, HEIGHT), 80).convert("RGB")
    on_card = NetworksOnCard(pipe, lambda *_: (), lambda: CardBudget(2**34, Bound.CEILING, 0))
    adapted = Adapted(pipe, QwenImage21Unit_InputImageEmbedder, start, on_card)
    adapted(
        prompt=PROMPT, negative_prompt="", cfg_scale=1.0, width=WIDTH, height=HEIGHT, seed=5,
        num_inference_steps=STEPS, input_image=source, denoising_strength=strength,
        progress_bar_cmd=lambda steps: steps,
    )  # fmt: skip
    made = Streamed(words)
    latents = made.latents(source=made.codec.encode(source, WIDTH, HEIGHT), strength=strength)
    assert error(latents, pipe.vae.latents) < 1e-5


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_part_of_a_picture_is_redrawn_as_by_diffsynths_step(words, guidance):
    """Its pipeline of 2.1 takes no mask, but its step does, as Qwen-Image's."""
    pipe: Any = pipeline(words)
    made = Streamed(words)
    source = made.codec.encode(Image.effect_noise((WIDTH, HEIGHT), 80), WIDTH, HEIGHT)
    mask = torch.zeros(1, 1, HEIGHT // 16, WIDTH // 16)
    mask[..., 1:4, 2:7] = 1.0
    mask[..., 4:, 2:7] = 0.5
    plain = pipe.step
    pipe.step = lambda *values, **options: plain(
        *values, **(options | {"input_latents": source, "inpaint_mask": mask})
    )
    exact, _ = stock(pipe, guidance)
    latents = made.latents(guidance, source=source, mask=mask)
    assert error(latents, exact) < 1e-5
    stays = (mask == 0).expand_as(source)
    assert torch.allclose(latents[stays], source[stays], atol=1e-5)


@pytest.mark.parametrize("precision", [Precision.PLAIN, Precision.FP8])
def test_streamed_is_bit_identical_to_resident(words, precision):
    made = Streamed(words, precision)
    resident = made.latents(3.0)
    for count in (1, 0):
        made.dit.configure(budget_for(made.dit, count), precision, compiled=False)
        assert torch.equal(made.latents(3.0), resident)
        assert len(made.dit.resident) == count


@pytest.mark.parametrize("precision", [Precision.PLAIN, Precision.FP8])
def test_an_edit_is_bit_identical_streamed(words, shown, precision):
    pictures = referred(shown, 2)
    made = Streamed(words, precision)
    usual = Work(WIDTH, HEIGHT, 2, (62, 43), tuple(one.picture.size for one in pictures))
    made.dit.execution.settings = replace(made.dit.settings, usual=usual)
    resident = made.latents(3.0, seeds=(5, 6), pictures=pictures)
    for count in (1, 0):
        made.dit.configure(budget_for(made.dit, count), precision, compiled=False)
        made.dit.network.forget()
        assert torch.equal(made.latents(3.0, seeds=(5, 6), pictures=pictures), resident)
        assert len(made.dit.resident) == count


def lora(scale: float = 0.3) -> dict[str, torch.Tensor]:
    """Every layer that a LoRA of 2.1 may change, changed."""
    dit, generator = networks()["dit"], torch.Generator().manual_seed(11)
    names = [f"transformer_blocks.{i}.{layer}" for i in (0, 1) for layer in QWEN_IMAGE_21.blocks]
    state = {}
    for name in (*names, *QWEN_IMAGE_21.outer):
        rows, columns = dit.get_submodule(name).weight.shape
        state[f"{name}.lora_A.weight"] = scale * torch.randn(4, columns, generator=generator)
        state[f"{name}.lora_B.weight"] = scale * torch.randn(rows, 4, generator=generator)
    return state


def test_a_lora_is_added_as_diffsynth_adds_it(words, capsys):
    pipe: Any = pipeline(words)
    plain = stock(pipe)[0]
    GeneralLoRALoader().fuse_lora_to_base_model(pipe.dit, lora(), alpha=0.5)
    exact = stock(pipe)[0]
    made = Streamed(words)
    made.dit.use([parse("ink", lora(), 0.5, target=QWEN_IMAGE_21)])
    assert error(made.latents(), exact) < 1e-4
    assert error(plain, exact) > 1e-2
    made.dit.use([])
    assert error(made.latents(), plain) < 1e-5


def test_loras_know_all_linear_layers_of_the_transformer():
    named = networks()["dit"].named_modules()
    linear = {name for name, module in named if isinstance(module, torch.nn.Linear)}
    assert {n for n in linear if n.startswith("transformer_blocks.0.")} == {
        f"transformer_blocks.0.{layer}" for layer in QWEN_IMAGE_21.blocks
    }
    outer = {name for name in linear if not name.startswith("transformer_blocks.")}
    assert outer == set(QWEN_IMAGE_21.outer)


@pytest.mark.parametrize("target", ["transformer_blocks.0.img_mod.1", "txt_in"])
def test_a_lora_of_qwen_image_is_refused_by_name(target):
    state = {
        f"{target}.lora_A.weight": torch.ones(4, 8),
        f"{target}.lora_B.weight": torch.ones(8, 4),
    }
    with pytest.raises(EngineError) as caught:
        parse("ink", state, target=QWEN_IMAGE_21)
    assert "is not made for Qwen-Image-2.1: it changes" in caught.value.sentence
