"""The measurement of switches: real engines from real files, small, on the CPU."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from bot.engine.options import EngineOptions
from bot.lab.bench.switches import measure
from tests.engine.kit import request
from tests.engine.small_models import QWEN, TURBO, WIDTHS, small, write

KNOWN = {
    "transformer": "qwen_image_21_dit",
    "text_encoder": "qwen_image_21_text_encoder",
    "vae": "qwen_image_21_vae",
}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.timeout(240)  # four processes, one after another, import torch
@pytest.mark.engine
async def test_switches_are_timed_beside_the_bare_work(tmp_path, monkeypatch) -> None:
    from bot.lab.step.random_files import write_alike

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    write(QWEN, tmp_path)
    write_alike(tmp_path / TURBO, tmp_path / QWEN)
    options = EngineOptions(
        tmp_path,
        lora_path=tmp_path,
        pipeline="tests.engine.small_models:build_streamed",
        compile=False,
    )
    (tmp_path / "out").mkdir()
    wanted = request(tmp_path / "out", steps=1, guidance=1.0)
    told: list[str] = []
    figures = await measure((QWEN, TURBO), options, wanted, "cpu", told.append)
    found = [(one["keeps"], one["from"]) for one in figures["switches"]]
    assert found == [(True, "files")] + [(True, "memory")] * 5 + [(False, "cache")] * 6
    assert all(one["seconds"] > 0 for one in figures["switches"])
    assert set(figures["bare"]) == {QWEN, TURBO}
    assert all(seconds > 0 for bare in figures["bare"].values() for seconds in bare.values())


@pytest.mark.slow
@pytest.mark.engine
def test_random_files_of_2_1_are_named_as_published_ones(tmp_path, monkeypatch) -> None:
    import torch
    from safetensors import safe_open

    from bot.lab.step import random_files

    def shapes(folder: Path) -> dict[str, list[int]]:
        found = {}
        for path in sorted(folder.rglob("*.safetensors")):
            with safe_open(path, "pt") as file:
                names = {f"{path.parent.name} {name}": name for name in file.keys()}  # noqa: SIM118
                found |= {key: file.get_slice(name).get_shape() for key, name in names.items()}
        return found

    write(QWEN, tmp_path)
    narrow = tuple(
        (partial(network, **WIDTHS[KNOWN[name]]), name, *rest)
        for network, name, *rest in random_files._PARTS["qwen-image-21"]
    )
    monkeypatch.setitem(random_files._PARTS, "qwen-image-21", narrow)
    with small():
        random_files.write(
            tmp_path / "random", torch.device("cpu"), lambda _text: None, family="qwen-image-21"
        )
    assert shapes(tmp_path / "random") == shapes(tmp_path / QWEN)
    assert (tmp_path / "random" / "processor" / "vocab.json").is_file()
