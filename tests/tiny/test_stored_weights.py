"""The weights that come with the bot: as small as promised, and they draw what is asked for."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest

from bot.cli.main import main
from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from bot.engine.tiny import model as tiny
    from bot.engine.tiny import stored, streamed

from bot.engine.models.shelf import NetworkShelf
from bot.engine.options import EngineOptions
from bot.errors import EngineError, EngineErrorKind
from bot.lab.tiny.train.scenes.ink import PAPER, PEN


def test_they_are_small():
    state = stored.read()
    assert 20_000_000 < sum(tensor.numel() for tensor in state.values()) <= 24_000_000
    files = list(stored.WEIGHTS.glob("*.safetensors"))
    # In eight bits; what alone draws took 22.3 of them in FP16.
    assert sum(path.stat().st_size for path in files) <= 25_000_000


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
def test_they_draw_what_is_asked_for(tmp_path):
    figures = tmp_path / "figures.json"
    assert main(["bench", "tiny", "--count", "24", "--psnr", "0", "--json", str(figures)]) == 0
    percent = json.loads(figures.read_text("utf-8"))["percent"]
    # Of 500 prompts: 99, 100, 98 and 99 %. One of 24 may fail where few state it.
    assert percent["colour"] >= 90
    assert percent["background"] >= 90
    assert percent["shape"] >= 80
    assert percent["position"] >= 75


def test_a_style_is_a_small_difference():
    assert (stored.STYLES / "ink.safetensors").stat().st_size <= 2_000_000
    pairs = stored.read_style("ink")
    plain, inked = (tiny.assemble(lambda *_: None, style=style) for style in (None, "ink"))
    changed = {
        f"transformer.{name}"
        for (name, one), other in zip(
            plain.dit.named_parameters(), inked.dit.parameters(), strict=True
        )
        if not one.equal(other)
    }
    named = {name.removesuffix("up") + "weight" for name in pairs if name.endswith("up")}
    assert changed <= named
    assert len(changed) >= 11 * tiny.TRAINED.layers - 3
    name = "transformer_blocks.2.img_mlp.net.2"
    before, after = (pipe.dit.get_submodule(name).weight for pipe in (plain, inked))
    up, down = (pairs[f"transformer.{name}.{part}"].float() for part in ("up", "down"))
    np.testing.assert_allclose((after - before).numpy(), (up @ down).numpy(), atol=1e-6)


def test_without_its_file_a_style_is_not_loaded(monkeypatch, tmp_path):
    monkeypatch.setattr(stored.read_style, "__defaults__", (tmp_path,))
    for load in (tiny.load, partial(streamed.load, shelf=NetworkShelf(0))):
        with pytest.raises(EngineError) as caught:
            load("tiny-ink", EngineOptions(tmp_path), lambda *_: None)
        assert caught.value.kind is EngineErrorKind.LOAD_FAILED
        assert "The weights of the style ink are missing" in caught.value.sentence
        load("tiny", EngineOptions(tmp_path), lambda *_: None)


def colours(style: str | None, prompt: str) -> np.ndarray:
    """Return a picture's pixels [65536, 3], as levels."""
    pipe = tiny.assemble(lambda *_: None, style=style)
    picture = pipe(
        prompt=prompt, negative_prompt="", cfg_scale=4.0, seed=3, num_inference_steps=8,
        width=256, height=256, progress_bar_cmd=lambda steps: steps,
    )  # fmt: skip
    return np.asarray(picture, np.float32).reshape(-1, 3)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "prompt", ["a red circle on a blue background", "a green house", "蓝色的月亮"]
)
def test_tiny_ink_draws_with_a_pen_on_paper(prompt):
    plain, inked = colours(None, prompt), colours("ink", prompt)
    # Most of it is paper, and few pixels are far from paper and pen.
    assert np.abs(np.median(inked, 0) - PAPER).max() < 15
    assert np.abs(np.median(plain, 0) - PAPER).max() > 40
    line = np.asarray(PAPER, np.float32) - PEN
    share = ((inked - PEN) @ line / (line @ line)).clip(0, 1)
    off = np.linalg.norm(inked - (PEN + share[:, None] * line), axis=1)
    assert (off < 40).mean() > 0.9
    # It still draws what is asked for: some of it dark.
    assert 0.02 < (share < 0.3).mean() < 0.6
