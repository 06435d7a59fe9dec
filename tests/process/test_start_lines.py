"""What the terminal says of a start: few lines, and those that one acts on."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from bot.sandbox.server import Sandbox
from tests.process.doctor_kit import program, whole_model
from tests.process.kit import PATIENCE_S, bot_process, logged

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nvidia-smi is a script here")

GIB = 1024  # nvidia-smi counts in MiB
SMI = """case "$1" in
  *uuid,name*) echo "GPU-1a, NVIDIA GeForce RTX 4090"; echo "GPU-2b, NVIDIA GeForce RTX 3060";;
  *uuid,memory*) echo "GPU-1a, {first}"; echo "GPU-2b, {second}";;
  *) exit 1;;
esac"""


async def started(data: Path, **extra: str) -> list[str]:
    """Start the bot, stop it once it is online, and return the log's lines without their times."""
    async with Sandbox() as sandbox, bot_process(sandbox, data, **extra) as process:
        lines = []
        async with asyncio.timeout(PATIENCE_S):
            while line := (await process.stderr.readline()).decode():
                lines.append(line)
                if "online as" in line:
                    break
            process.send_signal(signal.SIGTERM)
            _, rest = await process.communicate()
    assert process.returncode == 0, "".join(lines) + rest.decode()
    # Time, level and job take a place each.
    return [" ".join(line.split()[2:]) for line in lines]


async def test_a_toys_start(tmp_path):
    lines = await started(tmp_path, API_KEYS="none", HTTP_PORT="0")
    docs, model, online = lines
    assert docs.startswith("INFO - bot.http.server: the HTTP API is open at http://127.0.0.1:")
    assert docs.endswith("/docs)")
    assert model == (
        "INFO - bot.app.opening: it draws with tiny, a toy that knows shapes, simple things and "
        "short words"
    )
    assert online == "INFO - bot.client.bot: online as Imagine; servers: 1"


@pytest.mark.slow
async def test_the_budget_of_each_card(tmp_path):
    cards = SMI.format(first=f"{24 * GIB}, {23 * GIB}", second=f"{12 * GIB}, {12 * GIB}")
    program(tmp_path / "bin", "nvidia-smi", cards)
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    model = {"IMAGE_MODEL_NAME": "Qwen/Qwen-Image", "IMAGE_PRECISION": "fp8"}
    name, first, second, _ = await started(tmp_path, **path, **model, IMAGE_VRAM_GB="11")
    assert name.endswith("it draws with Qwen/Qwen-Image (fp8)")
    by = "may take 11.0 of 24.0 GiB (by IMAGE_VRAM_GB): NVIDIA GeForce RTX 4090"
    assert first.endswith(f"local-0 {by}")
    by = "may take 10.8 of 12.0 GiB (by IMAGE_GPU_MEMORY_UTILIZATION): NVIDIA GeForce RTX 3060"
    assert second.endswith(f"local-1 {by}")


@pytest.mark.slow
async def test_offered_models_are_named_and_those_without_files(tmp_path):
    program(tmp_path / "bin", "nvidia-smi", "exit 9")
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "IMAGE_PRECISION": "fp8"}
    here, there = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"
    whole_model(tmp_path / "model" / here)
    models = {"IMAGE_MODEL_NAME": "tiny", "IMAGE_MODELS": f"{here}, {there}"}
    models["IMAGE_MODEL_PATH"] = str(tmp_path / "model")
    toy, second, third, lacking, none, _ = await started(tmp_path, **path, **models)
    assert "it draws with tiny, a toy" in toy
    assert second.endswith(f"or, where it is asked for, with {here} (fp8)")
    assert third.endswith(f"or, where it is asked for, with {there} (fp8)")
    assert lacking.endswith(
        f"{there} is not complete on the disk: its first picture downloads it (58 GB in all); now: "
        f"python -m bot download {there}"
    )
    assert f"no graphics card, which {here} and {there} need: " in none


@pytest.mark.slow
async def test_two_toys_need_no_card(tmp_path):
    lines = await started(tmp_path, IMAGE_MODELS="tiny-ink")
    assert len(lines) == 3
    assert "or, where it is asked for, with tiny-ink, a toy" in lines[1]


@pytest.mark.slow
async def test_without_a_card_it_says_so(tmp_path):
    program(tmp_path / "bin", "nvidia-smi", "exit 9")
    path = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    name, none, _ = await started(tmp_path, **path, IMAGE_MODEL_NAME="Qwen/Qwen-Image")
    assert name.startswith("INFO")
    assert none.startswith("WARNING - bot.app.opening: NVIDIA's driver shows no graphics card")


@pytest.mark.slow
async def test_the_rest_is_there_at_debug(tmp_path):
    said = "\n".join(await started(tmp_path, LOG_LEVEL="DEBUG"))
    for words in ("engine local-0 joined", "synced", "discord.client: logging in"):
        assert words in said


@pytest.mark.slow
async def test_lines_of_env_that_do_nothing_are_warned_of(tmp_path):
    text = "LOG_LEVEL=INFO\n\nIMAGE_VRM_GB=8\nDISCORD_TOKEN: not-to-be-shown\n"
    (tmp_path / ".env").write_text(text)
    misspelt, unread, *_ = await started(tmp_path)
    assert misspelt == (
        "WARNING - bot.cli.main: IMAGE_VRM_GB in .env is no setting and does nothing (line 3): "
        "did you mean IMAGE_VRAM_GB? (.env.example has them all)"
    )
    assert "line 4 of .env is not of the form NAME=VALUE" in unread
    assert "not-to-be-shown" not in misspelt + unread


@pytest.mark.slow
async def test_jobs_that_were_left_running_are_counted_in_words(tmp_path):
    async with Sandbox() as sandbox, bot_process(sandbox, tmp_path, "misbehaving") as process:
        await sandbox.ready(PATIENCE_S)
        await (await sandbox.user("bob").slash("art", "imagine", prompt="hang")).response()
        await logged(process, "it hangs")
        process.kill()
        await process.wait()
    lines = await started(tmp_path)
    assert "1 wait again, 0 failed, 0 were cancelled" in lines[0]


@pytest.mark.slow
async def test_a_lost_connection_is_one_line(tmp_path):
    async with Sandbox() as sandbox:
        bot = bot_process(sandbox, tmp_path)
        process = await bot.__aenter__()
        await sandbox.ready(PATIENCE_S)
        await logged(process, "online as")
    try:
        line = await logged(process, "is lost")
        assert " WARNING " in line
        assert "the connection to Discord is lost (no connection: " in line
        assert "; next try in " in line
        process.send_signal(signal.SIGTERM)
        _, rest = await process.communicate()
        assert process.returncode == 0
        assert b"Traceback" not in rest
    finally:
        await bot.__aexit__(None, None, None)
