"""What `Engine.generate` promises, held against what an engine told."""

from __future__ import annotations

import asyncio
import hashlib
import io
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from bot.engine.protocol import (
    Engine,
    EngineRequest,
    EngineState,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Step,
)
from bot.errors import GenerationCancelled
from tests.engine.conformance import Act, Implementation

LETTERS = {Loading: "l", Loaded: "L", Step: "s", Preview: "v", Picture: "p", Finished: "f"}


async def draw(engine: Engine, wanted: EngineRequest) -> list[Event]:
    async with asyncio.timeout(60):
        return [event async for event in engine.generate(wanted)]


async def react(
    engine: Engine, wanted: EngineRequest, on_event: Callable[[Event], Awaitable[object]]
) -> list[Event]:
    """Draw, wait for what each event calls forth, and return those before the cancellation."""
    events = []
    async with asyncio.timeout(60):
        with pytest.raises(GenerationCancelled):
            async for event in engine.generate(wanted):
                events.append(event)
                await on_event(event)
    return events


async def leave(engine: Engine, wanted: EngineRequest, last: type[Event], number: int = 1) -> None:
    """Close the iterator after so many events of that kind."""
    events = cast("AsyncGenerator[Event]", engine.generate(wanted))
    async with asyncio.timeout(60), aclosing(events):
        async for event in events:
            number -= isinstance(event, last)
            if not number:
                return
    raise AssertionError("it ended before")


def loads(events: Sequence[Event]) -> bool:
    return any(isinstance(event, Loading | Loaded) for event in events)


def check(events: Sequence[Event], wanted: EngineRequest) -> None:
    """Every promise of `Engine.generate` to a job that ends well."""
    order = "".join(LETTERS[type(event)] for event in events)
    assert re.fullmatch("(l*L)?[sv]+p+f", order), order
    for event in events:
        if isinstance(event, Loading):
            assert event.stage
            assert event.fraction is None or 0 <= event.fraction <= 1
        if isinstance(event, Loaded):
            assert event.model
            assert event.device
            assert 0 <= event.imports_s <= event.seconds
    total = wanted.steps
    steps = [event for event in events if isinstance(event, Step)]
    assert steps == [Step(index, total) for index in range(1, total + 1)]
    check_previews(events)
    check_pictures([event for event in events if isinstance(event, Picture)], wanted)
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.timings["total"] > 0
    assert all(seconds >= 0 for seconds in finished.timings.values())
    assert finished.peak_gpu_bytes is None or finished.peak_gpu_bytes > 0


def check_previews(events: Sequence[Event]) -> None:
    step = 0
    for event in events:
        if isinstance(event, Step):
            step = event.index
        if isinstance(event, Preview):
            assert event.step in {step, step + 1}
            with Image.open(io.BytesIO(event.data)) as image:
                image.load()
                assert image.format == "JPEG"


ADDED = re.compile(r", Precision: (bf16|(int8|fp8)(-fast)?)$")


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def texts_of(image: Image.Image) -> dict[str, str]:
    """A picture's texts, without what the engine adds to the parameters: how it was computed."""
    return {name: ADDED.sub("", text) for name, text in image.text.items()}


def check_pictures(pictures: Sequence[Picture], wanted: EngineRequest) -> None:
    size = wanted.width, wanted.height
    assert sorted(pictures, key=lambda picture: picture.index) == [
        Picture(index, path := wanted.output_dir / f"{index}.png", seed, *size, sha256_of(path))
        for index, seed in enumerate(wanted.seeds)
    ]
    for picture in pictures:
        with Image.open(picture.path) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", size)
            assert texts_of(image) == wanted.texts[picture.index]
    names = sorted(path.name for path in wanted.output_dir.iterdir())
    assert names == [f"{index}.png" for index in range(len(wanted.seeds))]


async def draw_well(implementation: Implementation, engine: Engine, folder, **changes):
    """The events of an ordinary job, all promises of which were kept."""
    folder.mkdir(exist_ok=True)
    wanted = implementation.request(engine, Act.DRAW, folder, **changes)
    events = await draw(engine, wanted)
    check(events, wanted)
    assert engine.state is EngineState.IDLE
    return events
