"""The actor of a node without Ray around it: its child confines itself on that machine."""

from __future__ import annotations

import logging
import sys

import pytest

from bot.engine.cluster.actor import NodeActor
from bot.engine.confinement import landlock
from bot.engine.options import EngineOptions
from bot.engine.wire import request_fields
from tests.engine.kit import HERE, request

try:
    landlock.abi()
except landlock.NoLandlock as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def actor(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    logger = logging.getLogger("bot")  # The actor takes it for itself.
    for name in ("handlers", "level", "propagate"):
        monkeypatch.setattr(logger, name, getattr(logger, name))
    return NodeActor()


@pytest.mark.skipif(sys.platform == "win32", reason="nodes run Linux")
async def test_the_child_of_a_node_is_confined_to_the_nodes_folder(actor, tmp_path):
    # As the bot sends it: its own folders mean nothing here.
    options = EngineOptions(
        tmp_path / "model", pipeline="misbehaving:build", confinement="required",
        closed=("/somewhere/else",),
    )  # fmt: skip
    await actor.open()
    try:
        await actor.send({"type": "init", "model": "any", "options": options.to_header()})
        loaded = [item async for item in actor.exchange({"type": "load"}, {})]
        wanted = {"type": "generate", **request_fields(request(tmp_path, "symlink"))}
        told = [item async for item in actor.exchange(wanted, {"input_image": b"input"})]
    finally:
        await actor.end(0.0)
    lines = [header["text"] for header, _ in loaded + told if header["type"] == "log"]
    assert any("confined: files by Landlock" in line for line in lines)
    last = told[-1][0]
    assert last["type"] == "failed"  # The link that it wanted to put in the picture's place.
    assert "PermissionError" in last["detail"]
