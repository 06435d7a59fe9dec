"""Engines and requests for the tests of this folder; others may use them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import EngineRequest, Event, Finished, Step
from bot.errors import GenerationCancelled

HERE = Path(__file__).parent


def request(folder: Path, prompt: str = "fine", *, job: str = "job1", **changes) -> EngineRequest:
    """A request for small pictures; `changes` replace its fields."""
    fields = {
        "negative_prompt": "",
        "width": 256,
        "height": 256,
        "steps": 4,
        "guidance": 4.0,
        "seeds": (7,),
        "output_dir": folder,
        "texts": tuple({"parameters": "p"} for _ in changes.get("seeds", (7,))),
    }
    return EngineRequest(job_id=job, prompt=prompt, **{**fields, **changes})


class Quiet:
    """A reporter for backends in this process, which counts the previews."""

    previews = 0

    def stage(self, *_: object) -> None:
        pass

    def step(self, *_: object) -> None:
        pass

    def preview(self, *_: object) -> None:
        self.previews += 1


async def draw(engine: EngineProcess, wanted: EngineRequest) -> list[Event]:
    """All events of a generation, within a minute."""
    async with asyncio.timeout(60):
        return [event async for event in engine.generate(wanted)]


async def react(
    engine: EngineProcess, wanted: EngineRequest, on_event: Callable[[Event], Awaitable[None]]
) -> None:
    """Draw, and wait for what each event calls forth."""
    async with asyncio.timeout(60):
        async for event in engine.generate(wanted):
            await on_event(event)


async def cancelled_at(step: int, engine: EngineProcess, wanted: EngineRequest) -> int:
    """Cancel at a step; return the last step that was done all the same."""
    done: list[int] = []

    async def on_event(event: Event) -> None:
        if isinstance(event, Step):
            done.append(event.index)
            if event.index == step:
                await engine.cancel(wanted.job_id)

    with pytest.raises(GenerationCancelled):
        await react(engine, wanted, on_event)
    return done[-1]


async def draw_well(engine: EngineProcess, wanted: EngineRequest) -> list[Event]:
    """The events of a generation that must end well."""
    events = await draw(engine, wanted)
    assert isinstance(events[-1], Finished)
    assert all((wanted.output_dir / f"{i}.png").is_file() for i in range(len(wanted.seeds)))
    return events


@asynccontextmanager
async def misbehaving(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str = "any",
    *,
    limits: SilenceLimits | None = None,
    backoff: Backoff | None = None,
    confinement: str = "auto",
    **options,
) -> AsyncIterator[EngineProcess]:
    """An engine whose child runs tests/engine/misbehaving.py."""
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    engine = EngineProcess(
        model,
        options=EngineOptions(
            folder,
            pipeline="misbehaving:build",
            compile=False,
            confinement=confinement,
            work_path=folder,
        ),
        limits=limits,
        backoff=backoff or Backoff(base=0.01),
        **options,
    )
    try:
        yield engine
    finally:
        await engine.close()
