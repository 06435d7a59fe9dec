"""The weights that come with the bot: as small as promised, and they draw what is asked for."""

from __future__ import annotations

import json

import pytest

from bot.cli.main import main
from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from bot.engine.tiny import stored


def test_they_are_small():
    state = stored.read()
    assert 10_000_000 < sum(tensor.numel() for tensor in state.values()) <= 12_000_000
    files = list(stored.WEIGHTS.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 25_000_000


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
