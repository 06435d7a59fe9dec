"""The demo's door, with the real tiny model behind it."""

from __future__ import annotations

import asyncio
import os
import re
import sys

import httpx
import pytest

from tests.http.kit import GENERATE, png_of
from tests.process.kit import PATIENCE_S, ROOT


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(180)
async def test_the_demo_draws_for_programs_too(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("API_", "HTTP_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", "demo", "--port", "0", "--data", str(tmp_path / "data"),
        cwd=ROOT, env=environment, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        url = ""
        async with asyncio.timeout(PATIENCE_S):
            while not url:
                line = (await process.stderr.readline()).decode()
                assert line, "the demo ended"
                if found := re.search(r"the HTTP API is open at (\S+) for", line):
                    url = found[1]
        rest = asyncio.create_task(process.stderr.read())
        assert url.startswith("http://127.0.0.1:")
        body = {"prompt": "a red house", "seed": 7, "num_inference_steps": 4}
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            first, second = [await client.post(GENERATE, json=body) for _ in range(2)]
    finally:
        process.terminate()
        await process.wait()
    assert "Traceback" not in (await rest).decode()
    assert process.returncode == 0
    pictures = [png_of(answer.json()["image_url"]) for answer in (first, second)]
    assert pictures[0].size == (256, 256)
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert len(set(pictures[0].convert("L").tobytes())) > 2
