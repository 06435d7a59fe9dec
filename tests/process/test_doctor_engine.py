"""What `python -m bot doctor` says of the engine's last failure, and of the names in `.env`."""

from __future__ import annotations

import asyncio
import sys

import pytest

from bot.engine.protocol import EngineState
from bot.errors import EngineError, EngineErrorKind
from bot.fleet.worker import GpuWorker
from storage.images import ImageStore
from tests.engines import ScriptedEngine
from tests.jobs.kit import open_queue, submit
from tests.process.kit import ROOT


async def test_a_model_that_was_not_loaded_is_an_error_until_it_is(look, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    missing = EngineError(EngineErrorKind.LOAD_FAILED, "model-00003.safetensors is missing")
    engine, told = ScriptedEngine(), asyncio.Event()
    engine.state, engine.load_error = EngineState.STOPPED, missing
    async with open_queue(tmp_path) as (queue, _):
        publish = queue.feed.publish

        def watch(update):
            publish(update)
            if "Next try in" in update.stage:
                told.set()

        monkeypatch.setattr(queue.feed, "publish", watch)
        worker = GpuWorker(queue, engine, ImageStore(tmp_path / "images"), retry_s=0.001)
        working = asyncio.create_task(worker.run())
        async with asyncio.timeout(20):
            job = await submit(queue)
            await told.wait()
            ((level, text, step),) = look("last engine error")
            assert level == "error"
            assert "could not be loaded" in text
            assert "model-00003" in text
            assert "lines about the model" in step
            engine.load_error = None
            while not (await queue.job(job.id)).state.final:
                await queue.commits.changed.wait()
        working.cancel()
        await asyncio.wait({working})
    assert look("last engine error") == [("ok", "none", "")]


def test_names_in_env_that_are_no_settings(look, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert look("setting names")[0][0] == "ok"
    lines = [
        "DISCORD_BOT_TOKEN=a secret",
        "API_KEY=none",
        "image_steps_max=3",
        "HF_TOKEN=x",
        "HTTPS_PROXY=y",
        "IMAGE_MODEL_NAME=tiny",
        "XYZZY=1",
        "CUDA_VISIBLE_DEVICES=0",
        "",
        "LOG_LEVEL: DEBUG",
    ]
    (tmp_path / ".env").write_text("\n".join(lines))
    found = look("setting names")
    assert {level for level, *_ in found} == {"warning"}
    texts = [(text.split()[0], step.split(" (")[0]) for _, text, step in found]
    assert texts[:2] == [
        ("DISCORD_BOT_TOKEN", "did you mean DISCORD_TOKEN?"),
        ("API_KEY", "did you mean API_KEYS?"),
    ]
    assert [name for name, _ in texts][2:] == ["image_steps_max", "XYZZY", "line"]
    assert "XYZZY in .env is no setting and does nothing (line 7)" in found[3][1]
    assert found[4][1].startswith("line 10 of .env is not of the form NAME=VALUE")
    assert "secret" not in str(found)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that confines")
@pytest.mark.parametrize(
    ("mode", "level", "said"),
    [
        ("auto", "warning", "the kernel was built without Landlock"),
        ("required", "error", "the kernel was built without Landlock"),
        ("off", "warning", "switched off"),
    ],
)
def test_an_engine_that_would_not_be_confined(look, tmp_path, monkeypatch, mode, level, said):
    script = ROOT / "tests" / "engine" / "without_landlock.py"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("ENGINE_CONFINEMENT", mode)
    ((found, text, _step),) = look("engine confinement")
    assert (found, said in text) == (level, True)
