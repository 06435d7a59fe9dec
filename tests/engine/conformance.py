"""What test_conformance.py needs of an implementation of `Engine`, and those there are.

A new implementation is one class like `Scripted` below, in `IMPLEMENTATIONS`.
"""

# ruff: noqa: ARG002 - each implementation has the same methods, and not each needs all of it.

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import pytest

from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.protocol import Engine, EngineRequest
from bot.errors import EngineError, EngineErrorKind
from tests.cluster.conformance import OnRay
from tests.engine.kit import HERE, request
from tests.engines import Script, ScriptedEngine


class Act(StrEnum):
    """What becomes of a request, in the words that tests/engine/misbehaving.py knows."""

    DRAW = "draw"
    """It is drawn, with previews."""
    NOISE = "noise"
    """It is drawn, and its pictures are noise: files as large as they get."""
    HOLD_FIRST = "hold-first"
    """It waits before its first step until it is cancelled."""
    HOLD = "hold"
    """It waits after its second step until it is cancelled, then goes on."""
    OOM = "oom"
    RAISE = "raise"
    REFUSE = "refuse"
    """It cannot be drawn: "There is no LoRA {name}.", with the name owl."""
    DIE = "exit"
    HANG = "hang"
    """It is silent for ever, which `Implementation.opened(silence=...)` limits."""
    WRONG_JOB = "wrong-job"
    """A step of another job is told."""
    GARBAGE = "garbage"
    UNASKED = "one-more"
    """One picture more than was asked for."""
    MISSING = "too-few"
    """The end is told, and no picture."""


class Implementation(Protocol):
    """One way to have an `Engine`."""

    name: str
    acts: frozenset[Act]
    """What it can be made to do; a test that needs more is left out."""
    slack: int
    """How many steps may still be told after a cancel that followed a step."""
    slow: bool
    """Whether its tests are for `make check`."""
    heavy: bool
    """Whether loading its model takes so long that only tests that seldom do it are for it."""

    def opened(
        self, folder: Path, *, silence: float | None = None
    ) -> AbstractAsyncContextManager[Engine]:
        """Make an engine that has not loaded yet, and close it in the end.

        `folder` is its own; a job that is silent for `silence` seconds is stuck.
        """
        ...

    def unloadable(
        self, folder: Path
    ) -> AbstractAsyncContextManager[tuple[Engine, Callable[[], None]]]:
        """Make an engine whose model cannot be loaded before the function is called."""
        ...

    def request(self, engine: Engine, act: Act, folder: Path, **changes) -> EngineRequest:
        """Return the request, the next one of `engine`, that becomes `act`."""
        ...


_FAULTS = {
    Act.OOM: EngineErrorKind.OUT_OF_MEMORY,
    Act.RAISE: EngineErrorKind.RAISED,
    Act.DIE: EngineErrorKind.DIED,
    Act.HANG: EngineErrorKind.SILENT,
    Act.WRONG_JOB: EngineErrorKind.GARBLED,
    Act.GARBAGE: EngineErrorKind.GARBLED,
    Act.UNASKED: EngineErrorKind.GARBLED,
    Act.MISSING: EngineErrorKind.GARBLED,
}


class Scripted:
    """The engine in this process."""

    name = "scripted"
    acts = frozenset(Act)
    slack = 1
    slow = False
    heavy = False

    @asynccontextmanager
    async def opened(self, folder: Path, *, silence: float | None = None) -> AsyncIterator[Engine]:
        engine = ScriptedEngine(loaded=False)
        yield engine
        await engine.close()

    @asynccontextmanager
    async def unloadable(self, folder: Path) -> AsyncIterator[tuple[Engine, Callable[[], None]]]:
        engine = ScriptedEngine(loaded=False)
        engine.load_error = EngineError(
            EngineErrorKind.LOAD_FAILED, "weights", sentence="The file weights is missing."
        )

        def repair() -> None:
            engine.load_error = None

        yield engine, repair
        await engine.close()

    def request(self, engine: Engine, act: Act, folder: Path, **changes) -> EngineRequest:
        assert isinstance(engine, ScriptedEngine)
        script = Script()
        if act is Act.HOLD_FIRST:
            script = Script(hold_at=0)
        elif act is Act.HOLD:
            script = Script(hold_at=2)
        elif act is Act.REFUSE:
            script = Script(
                EngineError(
                    EngineErrorKind.REFUSED,
                    "no such LoRA",
                    sentence="There is no LoRA {name}.",
                    values={"name": "owl"},
                )
            )
        elif act in _FAULTS:
            script = Script(EngineError(_FAULTS[act], "as asked"), error_at=1)
        engine.scripts.append(script)
        return request(folder, act.value, **changes)


class Child:
    """The engine in a child process, which runs tests/engine/misbehaving.py."""

    name = "child"
    acts = frozenset(Act)
    slack = 1
    slow = False
    heavy = False

    @asynccontextmanager
    async def opened(self, folder: Path, *, silence: float | None = None) -> AsyncIterator[Engine]:
        async with self._engine("any", folder, silence) as engine:
            yield engine

    @asynccontextmanager
    async def unloadable(self, folder: Path) -> AsyncIterator[tuple[Engine, Callable[[], None]]]:
        async with self._engine("load-needs-file", folder) as engine:
            yield engine, (folder / "weights").touch

    def request(self, engine: Engine, act: Act, folder: Path, **changes) -> EngineRequest:
        return request(folder, act.value, **changes)

    @asynccontextmanager
    async def _engine(
        self, model: str, folder: Path, silence: float | None = None
    ) -> AsyncIterator[Engine]:
        engine = EngineProcess(
            model,
            options=EngineOptions(folder, pipeline="misbehaving:build"),
            environment={"PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"},
            limits=SilenceLimits() if silence is None else SilenceLimits(denoise=silence),
            backoff=Backoff(base=0.01),
        )
        try:
            yield engine
        finally:
            await engine.close()


class Tiny:
    """The real pipeline with the tiny model, in its child."""

    name = "tiny"
    acts = frozenset({Act.DRAW, Act.HOLD_FIRST, Act.HOLD})
    slack = 20
    """It does not wait for the cancel: that takes its way while steps are drawn."""
    slow = True
    heavy = True

    @asynccontextmanager
    async def opened(self, folder: Path, *, silence: float | None = None) -> AsyncIterator[Engine]:
        engine = EngineProcess("tiny", options=EngineOptions(folder))
        try:
            yield engine
        finally:
            await engine.close()

    def unloadable(
        self, folder: Path
    ) -> AbstractAsyncContextManager[tuple[Engine, Callable[[], None]]]:
        raise NotImplementedError("only the quick ones are asked for it")

    def request(self, engine: Engine, act: Act, folder: Path, **changes) -> EngineRequest:
        steps = {"steps": 200} if act in {Act.HOLD, Act.HOLD_FIRST} else {}
        return request(folder, "a lighthouse at night", **{**changes, **steps})


IMPLEMENTATIONS: tuple[Implementation, ...] = (
    Scripted(),
    Child(),
    Tiny(),
    OnRay(frozenset(Act)),
)


def every(
    *acts: Act, slow: frozenset[str] = frozenset(), often: bool = False
) -> pytest.MarkDecorator:
    """Give a test each implementation that can `acts`; those named in `slow` in `make check`.

    A test that loads the model `often` is not for heavy implementations.
    """
    return pytest.mark.parametrize(
        "implementation",
        [
            pytest.param(each, id=each.name, marks=_marks(each, slow))
            for each in IMPLEMENTATIONS
            if each.acts.issuperset(acts) and not (often and each.heavy)
        ],
        indirect=True,
        scope="module",
    )


def _marks(each: Implementation, slow: frozenset[str]) -> list[pytest.MarkDecorator]:
    if each.slow:
        return [pytest.mark.slow, pytest.mark.engine, pytest.mark.timeout(300)]
    return [pytest.mark.slow] if each.name in slow else []
