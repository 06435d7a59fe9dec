"""`python -m bot bench scale`, with the tiny model in real children."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from tests.cluster.kit import ROOT, ray_environment
from tests.crash.kit import PATIENCE_S


async def scale(tmp_path, *options: str) -> dict:
    words = ["-m", "bot", "bench", "scale", "--model", "tiny", "--steps", "2", "--warm", "1"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, *options, "--json", str(tmp_path / "figures.json"),
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(3 * PATIENCE_S):
        out, _ = await process.communicate()
    assert process.returncode == 0
    figures = json.loads(out)
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    return figures


@pytest.mark.slow
@pytest.mark.engine
async def test_two_engines_of_this_machine(tmp_path):
    figures = await scale(tmp_path, "--engines", "2", "--jobs", "2")
    assert (figures["engines"], figures["steps"]) == (2, 2)
    assert {count: row["jobs"] for count, row in figures["rows"].items()} == {"1": 2, "2": 4}
    assert set(figures["rows"]["2"]["by_engine"]) == {"local-0", "local-1"}
    assert all(speed > 0 for speed in figures["rows"]["2"]["by_engine"].values())
    gain = figures["rows"]["2"]["jobs_an_hour"] / figures["rows"]["1"]["jobs_an_hour"]
    assert figures["gain"] == pytest.approx(gain, abs=0.001)
    assert figures["efficiency"] == pytest.approx(gain / 2, abs=0.001)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.engine
async def test_an_engine_of_a_cluster(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")
    with ray_environment():
        figures = await scale(tmp_path, "--ray", "--jobs", "1")
    assert figures["engines"] == 1
    assert figures["rows"]["1"]["jobs"] == 1
    assert not any(name.startswith("local-") for name in figures["rows"]["1"]["by_engine"])
