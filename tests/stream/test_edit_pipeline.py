"""Whole edits, from files to latents: the engine's backend against DiffSynth's pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from diffsynth.pipelines.qwen_image import QwenImagePipeline

from bot.engine.child.references import ReferenceSizes, read_reference
from bot.engine.models.streamed import StreamedQwenImage
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import EngineOptions
from bot.engine.stream.budget import Work
from bot.engine.stream.decode import PictureCodec
from bot.engine.stream.device import Device
from bot.engine.stream.encoder import StreamedTextEncoder
from bot.engine.stream.layout import Precision
from bot.engine.stream.lora import parse
from bot.engine.stream.preview import LatentPreview
from bot.engine.stream.prompts import PromptEmbedder
from bot.engine.stream.settings import TransformerSettings
from bot.engine.stream.transformer import StreamedDiT
from bot.engine.stream.transformer_kind import DOUBLE, ZERO_COND
from bot.engine.stream.vision import StreamedVisionTower
from bot.engine.tiny.model import TinyDiT, TinyVAE, Widths
from bot.errors import EngineError, EngineErrorKind
from tests.engine.kit import Quiet, request
from tests.stream.edits import TEXT, painted, small_pipe
from tests.stream.kit import budget_for, error

WIDTH, HEIGHT, STEPS = 128, 96, 3
PROMPT, NEGATIVE = "make the sky purple", " "
SIZES = ReferenceSizes(96 * 96, 128 * 128)
TOKENS = {1: (400, 380), 2: (360, 342)}
"""Of the prompts: those with two pictures, and somewhat more than with one."""
WIDTHS = Widths(
    128,
    3,
    text_width=TEXT["hidden_size"],
    text_layers=1,
    text_heads=2,
    text_hidden=64,
    vae=8,
    vision_width=32,
    vision_layers=1,
    vision_hidden=64,
)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The networks, and the folder of pictures that are referred to."""
    folder = tmp_path_factory.mktemp("edits")
    pipe = small_pipe(folder / "tokenizer")
    torch.manual_seed(9)
    pipe.dit, pipe.vae = (
        one.eval().requires_grad_(requires_grad=False) for one in (TinyDiT(WIDTHS), TinyVAE(WIDTHS))
    )
    for number in range(3):
        painted(number).save(folder / f"{number}.png")
    return pipe, folder


def oracle(parts, count: int, **changes: Any) -> tuple[torch.Tensor, Image.Image]:
    """The latents and the picture of DiffSynth's own pipeline on the same networks."""
    small, folder = parts
    pipe: Any = QwenImagePipeline(device="cpu", torch_dtype=torch.float32)
    for name in ("dit", "vae", "text_encoder", "tokenizer", "processor"):
        setattr(pipe, name, getattr(small, name))
    seen = {}
    for number in range(count):
        reference = read_reference(folder / f"{number}.png", SIZES)
        seen[id(reference.picture)] = reference
    for unit in pipe.units:
        if type(unit).__name__ == "QwenImageUnit_PromptEmbedder":
            # Ours is scaled from the original, with another filter.
            unit.resize_image = lambda image: seen[id(image)].seen
    latents: list[torch.Tensor] = []
    decode = pipe.vae.decode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pipe.vae, "decode", lambda z, **options: latents.append(z) or decode(z, **options)
        )
        values: dict[str, Any] = {
            "seed": 5,
            "width": WIDTH,
            "height": HEIGHT,
            "num_inference_steps": STEPS,
            "cfg_scale": 4.0,
            "prompt": PROMPT,
            "negative_prompt": NEGATIVE,
            "edit_image": [one.picture for one in seen.values()] or None,
            "edit_image_auto_resize": False,
        }
        image = pipe(**(values | changes), progress_bar_cmd=lambda steps: steps)
    return latents[0], image


class Engine:
    """The streamed backend on those networks, which keeps the latents that it decodes."""

    def __init__(
        self,
        parts,
        precision: Precision = Precision.PLAIN,
        *,
        zero: bool = True,
        dtype: torch.dtype = torch.float32,
        usual: int = 2,
    ) -> None:
        pipe, self.folder = parts
        model = f"Qwen/Qwen-Image-Edit-{2511 if zero else 2509}"
        kind = ZERO_COND if zero else DOUBLE
        work = Work(WIDTH, HEIGHT, 1, TOKENS[usual], ((96, 96), (160, 64))[:usual])
        settings = TransformerSettings(precision=precision, dtype=dtype, usual=work)
        dit = TinyDiT(WIDTHS)
        dit.load_state_dict(pipe.dit.state_dict())
        self.dit = StreamedDiT.from_module(dit.to(dtype), settings, kind.network)
        encoder = StreamedTextEncoder.from_module(
            pipe.text_encoder, Device(), torch.float32, storage=Precision.PLAIN.storage
        )
        encoder.vision = StreamedVisionTower.from_module(
            pipe.text_encoder, encoder.device, torch.float32, encoder.streamer
        )
        embedder = PromptEmbedder(pipe.tokenizer, encoder, model="small")
        codec = PictureCodec(pipe.vae, Device(), torch.float32)
        self.latents = torch.empty(0)
        decode = codec.decode
        codec.decode = lambda z, *rest, **options: self.kept(z) or decode(z, *rest, **options)
        self.networks = Networks(self.dit, embedder, codec, "cpu", references=lambda *_: SIZES)
        self.backend: Any = StreamedQwenImage(model, EngineOptions(self.folder))
        self.backend._networks = self.networks
        self.backend._preview = LatentPreview.of(codec)
        self.backend._loras = self
        self.loras: list[Any] = []

    def kept(self, latents: torch.Tensor) -> None:
        self.latents = latents

    def take(self, _names: Any) -> list[Any]:
        return self.loras

    def draw(self, count: int, **changes: Any) -> list[Image.Image]:
        values: dict[str, Any] = {
            "negative_prompt": NEGATIVE,
            "width": WIDTH,
            "height": HEIGHT,
            "steps": STEPS,
            "seeds": (5,),
            "references": tuple(self.folder / f"{number}.png" for number in range(count)),
        }
        wanted = request(self.folder, PROMPT, **(values | changes))
        return [drawn.image for drawn in self.backend.generate(wanted, Quiet())]


@pytest.mark.slow
@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize(("count", "guidance"), [(1, 4.0), (2, 1.0), (3, 4.0)])
def test_an_edit_is_the_pipelines(parts, count, guidance, zero):
    exact, image = oracle(parts, count, cfg_scale=guidance, zero_cond_t=zero)
    made = Engine(parts, zero=zero)
    (drawn,) = made.draw(count, guidance=guidance)
    assert error(made.latents, exact) < 2e-5
    away = np.abs(np.asarray(drawn).astype(int) - np.asarray(image)).max()
    assert away <= 1  # theirs is cut off, ours is rounded
    other, _ = oracle(parts, count, cfg_scale=guidance, zero_cond_t=not zero)
    assert error(other, exact) > 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [4.0, 1.0])
def test_a_batch_with_and_without_a_mask_is_the_pipelines_pictures(parts, guidance):
    made = Engine(parts)
    marks = Image.new("L", (WIDTH, HEIGHT), 0)
    marks.paste(255, (40, 24, 96, 64))  # whole latent pixels: grey ones are levelled in files
    marks.save(made.folder / "mask.png")
    source = Image.open(made.folder / "0.png").resize((WIDTH, HEIGHT))
    source.save(made.folder / "source.png")
    fitted = marks.resize((WIDTH // 8, HEIGHT // 8), Image.Resampling.BOX)
    region = {"input_image": source, "inpaint_mask": fitted}
    files = {
        "input_image": made.folder / "source.png",
        "mask": made.folder / "mask.png",
    }
    for theirs, ours in (({}, {}), (region, files)):
        exact = [
            oracle(parts, 2, cfg_scale=guidance, zero_cond_t=True, seed=seed, **theirs)[0]
            for seed in (5, 6)
        ]
        pictures = made.draw(2, guidance=guidance, seeds=(5, 6), **ours)
        assert error(made.latents, torch.cat(exact)) < 2e-5
        stays = np.asarray(marks) == 0
        same = [(np.asarray(one) == np.asarray(source))[stays].all() for one in pictures]
        assert same == [bool(ours)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("precision", [Precision.INT8, Precision.FP8, Precision.PLAIN])
def test_an_edit_is_the_same_to_the_bit_at_four_budgets(parts, precision):
    made = Engine(parts, precision, dtype=torch.bfloat16)
    made.draw(2)
    exact = made.latents
    for count in (3, 2, 1, 0):
        made.dit.configure(budget_for(made.dit, count), precision, compiled=False)
        made.draw(2)
        assert torch.equal(made.latents, exact)
        assert len(made.dit.resident) == count


def test_pictures_are_looked_at_once_and_remembered(parts, monkeypatch):
    made = Engine(parts)
    encoder = made.networks.embedder.encoder
    passes: list[int] = []
    looked: list[int] = []
    encode, look = encoder.encode, encoder.vision.encode
    monkeypatch.setattr(
        encoder, "encode", lambda ids, *rest: passes.append(len(ids)) or encode(ids, *rest)
    )
    monkeypatch.setattr(
        encoder.vision,
        "encode",
        lambda pictures, *rest: looked.append(len(pictures)) or look(pictures, *rest),
    )
    made.draw(2, seeds=(1, 2), steps=1)
    first = made.latents
    made.draw(2, seeds=(1, 2), steps=1)
    assert (passes, looked) == ([2], [2])
    assert torch.equal(made.latents, first)
    made.draw(1, steps=1)
    assert (passes, looked) == ([2, 2], [2, 0])


def test_what_has_no_room_is_refused_before_a_picture_is_encoded(parts, monkeypatch):
    made = Engine(parts, Precision.FP8, usual=1)
    made.dit.configure(budget_for(made.dit, 0), Precision.FP8, compiled=False)
    made.draw(1, steps=1)
    monkeypatch.setattr(
        made.networks.codec, "encode", lambda *_: pytest.fail("a picture was encoded")
    )
    with pytest.raises(EngineError) as caught:
        made.draw(3)
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert "with at most" in str(caught.value.sentence)


@pytest.mark.slow
def test_a_lora_changes_an_edit_and_leaves_no_trace(parts):
    made = Engine(parts)
    made.draw(1)
    plain = made.latents
    generator = torch.Generator().manual_seed(3)
    name = "transformer_blocks.0.attn.to_q"
    made.loras = [
        parse(
            "a.safetensors",
            {
                f"{name}.lora_A.weight": torch.randn(4, 128, generator=generator),
                f"{name}.lora_B.weight": torch.randn(128, 4, generator=generator),
            },
        )
    ]
    made.draw(1)
    assert error(made.latents, plain) > 1e-3
    made.loras = []
    made.draw(1)
    assert torch.equal(made.latents, plain)
