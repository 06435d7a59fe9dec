"""Nodes come, go, die and hang while the bot runs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from bot.engine.cluster import fingerprint
from bot.engine.cluster.membership import log
from bot.engine.protocol import Step
from bot.errors import EngineError, EngineErrorKind
from tests.cluster.kit import membership, parent_of, ray_nodes
from tests.crash.kit import is_running
from tests.crash.test_engine_dies_too import gone
from tests.engine.kit import draw_well, react, request

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def node(nodes):
    """The node that the tests from its first user on share."""
    return nodes.add()


async def broken_by(act, engine, wanted) -> EngineError:
    """How a job ends during which something happens."""

    async def on_event(event) -> None:
        if isinstance(event, Step) and event.index == 20:
            await asyncio.to_thread(act)

    with pytest.raises(EngineError) as caught:
        await react(engine, wanted, on_event)
    return caught.value


async def test_nodes_join_and_leave_and_die_during_a_job(nodes, tmp_path):
    async with membership(nodes.address, tmp_path) as (members, _):
        assert not members.engines
        one = nodes.add()  # on this thread: it sets signal handlers
        await members.until(lambda: len(members.engines) == 1)
        two = nodes.add()  # on this thread: it sets signal handlers
        await members.until(lambda: len(members.engines) == 2)
        (first, engine), (second, _) = sorted(members.engines.items())
        await draw_well(engine, request(tmp_path))
        child = os.pidfd_open(engine.pid)
        nodes_of = {member._node: name for name, member in members.engines.items()}
        assert set(nodes_of) == {one.node_id, two.node_id}
        victim = one if nodes_of[one.node_id] == first else two

        error = await broken_by(lambda: nodes.kill(victim), engine, request(tmp_path, "steps"))
        assert error.kind is EngineErrorKind.DIED
        assert not error.loading
        await members.until(lambda: first in members.gone)
        assert list(members.engines) == [second]
        await gone(child)
        await draw_well(members.engines[second], request(tmp_path))

        three = nodes.add()  # on this thread: it sets signal handlers
        await members.until(lambda: first in members.engines)  # the name is free again
        await draw_well(members.engines[first], request(tmp_path))
        for node in (three, one if victim is two else two):
            await asyncio.to_thread(nodes.kill, node)
        await members.until(lambda: not members.engines)
        assert sorted(members.gone) == sorted([first, first, second])


async def test_a_job_for_a_node_that_is_gone_is_not_counted(nodes, tmp_path):
    node = nodes.add()
    async with membership(nodes.address, tmp_path) as (members, watcher):
        await members.until(lambda: members.engines)
        (engine,) = members.engines.values()
        watcher._poll_s = 3600  # it is not noticed yet
        await draw_well(engine, request(tmp_path))
        child = os.pidfd_open(engine.pid)
        await asyncio.to_thread(nodes.kill, node)
        async with asyncio.timeout(60):
            await gone(child)
        with pytest.raises(EngineError) as caught:
            await draw_well(engine, request(tmp_path))
        assert caught.value.loading


async def test_an_actor_that_hangs_is_replaced(nodes, node, tmp_path):
    async with membership(nodes.address, tmp_path, silent_s=3) as (members, _):
        await members.until(lambda: members.engines)
        (engine,) = members.engines.values()
        await draw_well(engine, request(tmp_path))
        child = engine.pid
        actor = parent_of(child)
        stopped = request(tmp_path, "steps")
        try:
            error = await broken_by(lambda: os.kill(actor, signal.SIGSTOP), engine, stopped)
            assert error.kind is EngineErrorKind.SILENT
            await draw_well(engine, request(tmp_path))
            assert not is_running(actor)
            assert not is_running(child)
        finally:
            if is_running(actor):
                os.kill(actor, signal.SIGCONT)


async def test_a_driver_that_dies_is_replaced(nodes, node, tmp_path):
    async with membership(nodes.address, tmp_path) as (members, watcher):
        await members.until(lambda: members.engines)
        ((name, engine),) = members.engines.items()
        driver = watcher.driver_pid

        error = await broken_by(
            lambda: os.kill(driver, signal.SIGKILL), engine, request(tmp_path, "steps")
        )
        assert error.kind is EngineErrorKind.DIED
        await members.until(lambda: name in members.gone and name in members.engines)
        assert watcher.driver_pid != driver
        await draw_well(members.engines[name], request(tmp_path))


async def test_a_node_with_other_files_or_another_bot_is_refused(
    nodes, node, tmp_path, monkeypatch, caplog
):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    real = fingerprint.report

    said: list[str] = []

    def pretend(change):
        monkeypatch.setattr(
            "bot.engine.cluster.membership.report", lambda *paths: {**real(*paths), **change}
        )

    async def refused(words) -> None:
        told = asyncio.Event()
        monkeypatch.setattr(
            log, "error", lambda text, *parts: said.append(text % parts) or told.set()
        )
        async with membership(nodes.address, tmp_path) as (members, _), asyncio.timeout(60):
            await told.wait()
            assert not members.engines
        assert words in said.pop()

    pretend({"code": "another"})
    await refused("install the same on both")
    pretend({"model": {"model.safetensors": "of another size"}})
    await refused("The model file model.safetensors on")
    pretend({"model": {}, "loras": {"watercolour.safetensors": "x"}})
    async with membership(nodes.address, tmp_path) as (members, _):
        await members.until(lambda: members.engines)
        assert "lacks LoRA files" in caplog.text


def test_files_are_told_apart_without_reading_them_whole(tmp_path):
    big = tmp_path / "transformer" / "a.safetensors"
    big.parent.mkdir()
    (tmp_path / "fp8-cache").mkdir()
    Path(tmp_path / "fp8-cache" / "own.safetensors").write_bytes(b"x")
    big.write_bytes(bytes(2**20))
    (found,) = fingerprint.files(str(tmp_path)).items()
    assert found[0] == "transformer/a.safetensors"
    for data in (bytes(2**20 - 1), bytes(2**20 - 1) + b"1", b"1" + bytes(2**20 - 1)):
        big.write_bytes(data)
        assert fingerprint.files(str(tmp_path))[found[0]] != found[1]
