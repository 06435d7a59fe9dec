"""Models that do not load, and switches that fail: what becomes of the child and of the job."""

from __future__ import annotations

import pytest

from bot.engine.options import SilenceLimits
from bot.engine.protocol import EngineState, Loaded, Loading
from bot.errors import EngineError, GenerationCancelled
from bot.errors import EngineErrorKind as Kind
from tests.engine.kit import draw, draw_well, misbehaving, react, request


@pytest.mark.slow
async def test_an_engine_that_loads_none_is_told_from_a_model_that_does_not_load(
    tmp_path, monkeypatch
) -> None:
    """What another model lacks fails its job; what the engine's own lacks fails the engine."""
    async with misbehaving(tmp_path, monkeypatch, "load-needs-file") as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, model="load-needs-file-too"))
        assert (caught.value.kind, caught.value.loading) == (Kind.LOAD_FAILED, True)
        assert engine.state is EngineState.STOPPED
        (tmp_path / "weights").touch()
        events = await draw_well(engine, request(tmp_path, model="load-needs-file-too"))
        assert [e.model for e in events if isinstance(e, Loaded)] == ["load-needs-file-too"]
    (tmp_path / "weights").unlink()
    async with misbehaving(tmp_path, monkeypatch, "m") as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, model="load-needs-file"))
        assert (caught.value.kind, caught.value.loading) == (Kind.SWITCH_FAILED, False)
        assert caught.value.sentence == "The file weights is missing."
        pid = engine.pid
        await draw_well(engine, request(tmp_path, model="m"))
        assert engine.pid == pid


async def test_a_load_that_was_cancelled_fails_no_job_of_another_model(
    tmp_path, monkeypatch
) -> None:
    async with misbehaving(tmp_path, monkeypatch, "m") as engine:

        async def on_event(event) -> None:
            if event == Loading("waiting", 0.5):
                await engine.cancel("job1")

        with pytest.raises(GenerationCancelled):
            await react(engine, request(tmp_path, model="load-waits-and-fails"), on_event)
        (tmp_path / "go").touch()
        pid = engine.pid
        events = await draw_well(engine, request(tmp_path, model="m"))
        assert [e.model for e in events if isinstance(e, Loaded)] == ["m"]
        assert engine.pid == pid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "kind"),
    [("load-dies", Kind.DIED), ("load-hangs", Kind.SILENT)],
)
async def test_a_model_that_ends_the_child_as_it_loads_is_to_blame(
    tmp_path, monkeypatch, wanted, kind
) -> None:
    """And not the engine, which would wait for its own model then."""
    limits = SilenceLimits(load=0.4)
    async with misbehaving(tmp_path, monkeypatch, "m", limits=limits) as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, model=wanted))
        assert (caught.value.kind, caught.value.loading) == (kind, False)
        await draw_well(engine, request(tmp_path, model="m"))


@pytest.mark.slow
@pytest.mark.parametrize(("wanted", "kind"), [("hangs", Kind.SILENT), ("any", Kind.RAISED)])
async def test_a_switch_that_hangs_or_ruins_the_card_ends_the_child(
    tmp_path, monkeypatch, wanted, kind
) -> None:
    async with misbehaving(tmp_path, monkeypatch, "m", limits=SilenceLimits(switch=0.4)) as engine:
        await engine.load()
        pid = engine.pid
        with pytest.raises(EngineError) as caught:
            await draw(engine, request(tmp_path, model=wanted))
        assert (caught.value.kind, caught.value.loading) == (kind, False)
        await draw_well(engine, request(tmp_path, model="m"))
        assert engine.pid != pid
