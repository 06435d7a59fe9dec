"""Qwen-Image-2.1 streamed, from files as they are published: small networks, most in a real child."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from bot.catalogue.models import find_model
from bot.engine.child.inputs import read_input
from bot.engine.files import find
from bot.engine.files.find import COMPILED_FOLDER
from bot.engine.files.precision_kept import kept_choices
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Finished, Loading, Picture, Preview, Step
from bot.engine.stream.budget import Work
from bot.engine.stream.layout import Precision
from bot.errors import EngineError, EngineErrorKind
from tests.engine.kit import Quiet, cancelled_at, draw, draw_well, request
from tests.engine.small_models import QWEN, TURBO, small, streamed, write

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine]
in_a_child = pytest.mark.asyncio(loop_scope="module")
PROMPT = "a lighthouse at night"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write(QWEN, root)
    (root / "loras").mkdir()
    return root


def options(folder: Path, precision: str = "fp8") -> EngineOptions:
    return EngineOptions(
        folder,
        lora_path=folder / "loras",
        pipeline="tests.engine.small_models:build_streamed",
        precision=precision,
        compile=False,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        running = EngineProcess(QWEN, options=options(folder))
        try:
            yield running
        finally:
            await running.close()


async def drawn(engine, folder, **changes) -> bytes:
    await draw_well(engine, request(folder, changes.pop("prompt", PROMPT), **changes))
    return (folder / "0.png").read_bytes()


@pytest.mark.slow
@in_a_child
async def test_a_batch_is_one_pass_with_previews(engine, tmp_path) -> None:
    events = await draw_well(engine, request(tmp_path, PROMPT, steps=3, seeds=(1, 2)))
    parts = {event.stage for event in events if isinstance(event, Loading)}
    assert {"converting the text encoder", "converting the transformer"} <= parts
    assert [e for e in events if isinstance(e, Step)] == [Step(i, 3) for i in range(1, 4)]
    assert [e.seed for e in events if isinstance(e, Picture)] == [1, 2]
    assert isinstance(events[-1], Finished)
    shown = [e for e in events if isinstance(e, Preview)]
    assert shown
    with Image.open(io.BytesIO(shown[-1].data)) as sheet:
        assert sheet.size == (128, 64)  # two of 256 x 256, side by side, a quarter as large
    first, second = ((tmp_path / f"{i}.png").read_bytes() for i in range(2))
    assert first != second
    assert await drawn(engine, tmp_path, steps=3, seeds=(2,)) == second


@pytest.mark.slow
@in_a_child
async def test_every_setting_reaches_the_picture(engine, tmp_path) -> None:
    source = tmp_path / "red.png"
    Image.new("RGB", (100, 301), "red").save(source)
    settings = (
        {},
        {"prompt": "a lighthouse at noon"},
        {"negative_prompt": "blurry"},
        {"guidance": 1.0},
        {"steps": 5},
        {"input_image": source, "strength": 0.3},
        {"input_image": source, "strength": 0.8},
    )
    pictures = {await drawn(engine, tmp_path, **changes) for changes in settings}
    assert len(pictures) == len(settings)


@pytest.mark.slow
@in_a_child
@pytest.mark.parametrize(("width", "height", "steps"), [(336, 272, 2), (256, 272, 1)])
async def test_a_picture_has_the_size_that_was_asked_for(
    engine, tmp_path, width, height, steps
) -> None:
    """Sides of this model's are multiples of 32, the bot's of 16."""
    await drawn(engine, tmp_path, width=width, height=height, steps=steps)
    with Image.open(tmp_path / "0.png") as image:
        assert (image.size, image.mode) == ((width, height), "RGB")


@pytest.mark.slow
@in_a_child
async def test_a_transparent_picture_has_an_alpha_channel_and_begins_from_one(
    engine, tmp_path
) -> None:
    source = tmp_path / "disc.png"
    Image.new("RGBA", (256, 256), (255, 0, 0, 40)).save(source)
    begun = {"input_image": source, "strength": 0.3}
    pictures = {
        (clear, bool(changes)): await drawn(engine, tmp_path, transparent=clear, **changes)
        for clear in (True, False)
        for changes in ({}, begun)
    }
    modes = {key: Image.open(io.BytesIO(data)).mode for key, data in pictures.items()}
    assert {key[0]: mode for key, mode in modes.items()} == {True: "RGBA", False: "RGB"}
    assert len(set(pictures.values())) == 4


@pytest.mark.slow
@in_a_child
@pytest.mark.parametrize("transparent", [False, True])
async def test_a_part_is_redrawn_in_a_size_that_the_model_does_not_have(
    engine, tmp_path, transparent
) -> None:
    """It draws 352x288 and the middle of it is cut out: the input's place moves with it."""
    source, mask = tmp_path / "source.png", tmp_path / "mask.png"
    noise = np.random.default_rng(1).integers(0, 256, (272, 336, 4), dtype=np.uint8)
    Image.fromarray(noise).save(source)
    inner = np.full((272, 336), 255, np.uint8)
    inner[64:224, 48:208] = 0
    Image.fromarray(inner).save(mask)
    asked = {"width": 336, "height": 272, "input_image": source, "transparent": transparent}
    placed = tmp_path / "placed.png"
    Image.fromarray(noise[64:224, 48:208]).save(placed)
    around = {**asked, "input_image": placed, "place": (48, 64, 160, 160)}
    for changes in ({**asked, "mask": mask, "strength": 0.8}, around):
        with Image.open(io.BytesIO(await drawn(engine, tmp_path, **changes))) as image:
            assert (image.size, image.mode) == ((336, 272), "RGBA" if transparent else "RGB")
            found = np.asarray(image)
        before = np.asarray(read_input(source, (336, 272), alpha=transparent))
        assert (found[inner == 0] == before[inner == 0]).all()
        assert (found[:40] != before[:40]).any()


@pytest.mark.slow
@in_a_child
async def test_references_their_number_and_their_order_change_the_picture(engine, tmp_path) -> None:
    """One and several, of different shapes, up to ten; the same ones draw the same again."""
    shapes = ((100, 301), (256, 256), (320, 96))
    named = [tmp_path / f"reference-{number}.png" for number in range(3)]
    for path, size, colour in zip(named, shapes, ("red", "green", "blue"), strict=True):
        Image.new("RGB", size, colour).save(path)
    one, other, third = named
    sets = ((), (one,), (other,), (one, other), (other, one), (one, other, third), (third,) * 10)
    found = {names: await drawn(engine, tmp_path, references=names) for names in sets}
    assert len(set(found.values())) == len(sets)
    assert await drawn(engine, tmp_path, references=(one, other)) == found[one, other]
    mask = tmp_path / "mask.png"
    marks = np.zeros((256, 256), np.uint8)
    marks[64:160, 64:160] = 255
    Image.fromarray(marks).save(mask)
    part = {"input_image": other, "mask": mask, "references": (other, one)}
    with Image.open(io.BytesIO(await drawn(engine, tmp_path, **part))) as image:
        pixels = np.asarray(image)
    assert (pixels[marks == 0] == (0, 128, 0)).all()
    assert (pixels[marks > 0] != (0, 128, 0)).any()


@pytest.mark.slow
def test_references_without_room_are_refused_before_they_are_looked_at(folder, tmp_path) -> None:
    """Ten large ones: looking at them would end in the card's own refusal, which names nothing."""
    import torch

    named = tmp_path / "reference.png"
    Image.new("RGB", (2048, 2048), "red").save(named)
    with small():
        backend = streamed(QWEN, options(folder))
        backend.load(lambda *_: None)
        networks = backend._networks
        execution, size = networks.dit.execution, (2048, 2048)
        # Of so small networks the VAE would need the most.
        execution.settings = replace(execution.settings, others_working=0)
        half = networks.dit.plan(Work(*size, 1, (0, 0), (size,) * 5))

        def full(*_, **__):
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(networks.embedder, "embed", full)
            patch.setattr(networks, "measure", None)
            networks.dit.configure(half.working + half.overhead, Precision.FP8, compiled=False)
            wanted = request(tmp_path, PROMPT, width=2048, height=2048, references=(named,) * 10)
            with pytest.raises(EngineError) as caught:
                list(backend.generate(wanted, Quiet()))
    assert caught.value.kind is EngineErrorKind.OUT_OF_MEMORY
    assert caught.value.values["size"] == "2048x2048"
    assert 5 <= int(caught.value.values["fitting"]) < 10


@pytest.mark.slow
@in_a_child
async def test_cancel_acts_at_the_next_step_and_a_missing_lora_has_a_sentence(
    engine, tmp_path
) -> None:
    await engine.load()
    pid = engine.pid
    assert 2 <= await cancelled_at(2, engine, request(tmp_path, PROMPT, steps=100)) < 50
    with pytest.raises(EngineError) as caught:
        await draw(engine, request(tmp_path, loras=(("style", 1.0),)))
    assert caught.value.kind is EngineErrorKind.REFUSED
    assert caught.value.sentence == "There is no LoRA style; there are none."
    await drawn(engine, tmp_path)
    assert engine.pid == pid


def picture(folder: Path, precision: str, work: Path, **changes) -> bytes:
    """Load in this process, and draw."""
    with small():
        backend = streamed(QWEN, options(folder, precision))
        backend.load(lambda *_: None)
        wanted = request(work, PROMPT, steps=2, guidance=1.0, **changes)
        (made,) = backend.generate(wanted, Quiet())
    return made.image.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("strength", [None, 0.3])
def test_turbo_draws_at_its_own_levels(tmp_path, monkeypatch, strength) -> None:
    from bot.engine.stream import denoise

    seen: list[list[float]] = []
    real = denoise.schedule

    def noted(inputs):
        scheduler = real(inputs)
        seen.append(scheduler.sigmas.tolist())
        return scheduler

    monkeypatch.setattr(denoise, "schedule", noted)
    write(TURBO, tmp_path)
    source = tmp_path / "red.png"
    Image.new("RGB", (100, 301), "red").save(source)
    changes = {} if strength is None else {"input_image": source, "strength": strength}
    with small():
        backend = streamed(TURBO, options(tmp_path))
        backend.load(lambda *_: None)
        # What is planned and compiled at loading is a picture as it is usually drawn: one branch.
        assert len(backend._networks.dit.settings.usual.text_tokens) == 1
        wanted = request(tmp_path, PROMPT, steps=8, guidance=1.0, **changes)
        (made,) = backend.generate(wanted, Quiet())
    levels = find_model(TURBO).noise_levels
    assert seen == [pytest.approx(levels if strength is None else levels[-3:])]
    assert made.image.getextrema() != ((0, 0),) * 3


@pytest.mark.slow
def test_from_its_cache_alone_it_draws_the_same(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    from bot.engine.stream.drop import download_and_drop

    write(QWEN, tmp_path)
    first = picture(tmp_path, "fp8", tmp_path)
    assert (tmp_path / QWEN / "fp8-cache" / "transformer.weights").is_file()
    assert picture(tmp_path, "fp8", tmp_path) == first  # from the cache
    left = download_and_drop(
        tmp_path, lambda *_: None, repository=QWEN, source="huggingface", precision="fp8"
    )
    assert [path.parent.name for path in left.weights] == ["vae"]
    assert find.find(tmp_path, QWEN)[0] is None
    assert picture(tmp_path, "fp8", tmp_path) == first
    # What is left is FP8's: `auto` goes on with it, and says what new files would bring.
    assert picture(tmp_path, "auto", tmp_path) == first
    assert "goes on in FP8" in caplog.text
    assert not (tmp_path / QWEN / "int8-cache" / "transformer.weights").exists()


@pytest.mark.slow
async def test_auto_draws_as_what_it_chose_and_the_picture_says_so(folder, tmp_path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        engine = EngineProcess(QWEN, options=options(folder, "auto"))
        try:
            texts = ({"parameters": "x\nSteps: 2, Size: 160x96"},)
            events = await draw_well(
                engine, request(tmp_path, PROMPT, steps=2, guidance=1.0, texts=texts)
            )
        finally:
            await engine.close()
    ((card, chosen, _times),) = kept_choices(folder / COMPILED_FOLDER)
    assert card == "CPU"
    assert chosen in {"int8", "int8-fast"}
    assert events[-1].card_use.precision == chosen
    with Image.open(tmp_path / "0.png") as image:
        assert image.text["parameters"] == f"x\nSteps: 2, Size: 160x96, Precision: {chosen}"
        assert picture(folder, chosen, tmp_path) == image.tobytes()


@pytest.mark.slow
def test_every_precision_draws_nearly_the_same(tmp_path) -> None:
    import numpy as np

    write(QWEN, tmp_path)

    def pixels(precision: str) -> np.ndarray:
        return np.frombuffer(picture(tmp_path, precision, tmp_path), np.uint8).astype(float)

    exact = pixels("bf16")
    for precision in ("fp8", "fp8-fast", "int8", "int8-fast"):
        assert 0 < np.abs(pixels(precision) - exact).mean() < 30, precision
    assert (tmp_path / QWEN / "int8-cache").is_dir()


def test_files_of_qwen_image_are_refused_by_a_weight_that_they_lack(tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    write(QWEN, tmp_path)
    for path in (tmp_path / QWEN / "transformer").glob("*.safetensors"):
        state = load_file(path)
        save_file({k.replace("img_mlp.gate_layer", "img_mod.1"): v for k, v in state.items()}, path)
    with pytest.raises(EngineError) as caught:
        picture(tmp_path, "fp8", tmp_path)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    assert "lacks the weight" in caught.value.sentence
    assert "img_mlp.gate_layer" in caught.value.sentence
