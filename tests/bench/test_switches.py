"""The measurement of switches: real engines from real files, small, on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.engine.options import EngineOptions
from bot.lab.bench.switches import measure
from tests.engine.kit import request
from tests.engine.small_models import QWEN, TURBO, write


@pytest.mark.slow
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
    figures = await measure((QWEN, TURBO), options, wanted, "cpu")
    found = [(one["keeps"], one["from"]) for one in figures["switches"]]
    assert found == [(True, "files")] + [(True, "memory")] * 5 + [(False, "cache")] * 6
    assert all(one["seconds"] > 0 for one in figures["switches"])
    assert set(figures["bare"]) == {QWEN, TURBO}
    assert all(seconds > 0 for bare in figures["bare"].values() for seconds in bare.values())
