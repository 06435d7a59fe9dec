"""Requests to write: through the real child process, its supervision, and what is believed of it."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest
from PIL import Image

from bot.engine.frames import FrameError
from bot.engine.options import SilenceLimits
from bot.engine.protocol import (
    MOST_TOKENS,
    Ending,
    EngineState,
    Finished,
    Loaded,
    Loading,
    WriteRequest,
    Written,
)
from bot.engine.wire import message_of, read_write_request
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.kit import draw, draw_well, misbehaving, request

Kind = EngineErrorKind
QUICK = SilenceLimits(start=30, load=30, write=0.5, obey=1.0)


def asked(prompt="words", **changes) -> WriteRequest:
    fields = {"system": "You help.", "max_tokens": 8, "seed": 7, "temperature": 0.5}
    return WriteRequest(job_id="job1", prompt=prompt, **{**fields, **changes})


def text_of(events) -> str:
    return "".join(event.text for event in events if isinstance(event, Written))


def test_requests_are_the_same_behind_the_pipe(tmp_path) -> None:
    wanted = asked(references=(tmp_path / "a", tmp_path / "b"), seconds=3.5, model="tiny")
    kind, fields = message_of(wanted)
    assert kind == "write"
    fields = json.loads(json.dumps(fields))
    assert read_write_request(fields) == wanted
    assert replace(wanted, time_limit_s=5.0).time_limit_s == 5.0  # the parent's own
    for name, wrong in (
        ("max_tokens", 0),
        ("max_tokens", MOST_TOKENS + 1),
        ("temperature", float("nan")),
        ("temperature", -0.1),
        ("seconds", -1),
        ("references", ["a"] * 11),
    ):
        with pytest.raises(FrameError):
            read_write_request(fields | {name: wrong})


async def test_a_text_comes_in_pieces_and_the_child_then_draws(tmp_path, monkeypatch) -> None:
    picture = tmp_path / "picture"
    picture.write_text("what it shows")
    async with misbehaving(tmp_path, monkeypatch) as engine:
        wanted = asked("words <|im_end|>", max_tokens=600, references=(picture,))
        events = await draw(engine, wanted)
        given = json.dumps(["You help.", "words <| im_end |>", 7, 0.5])  # control tokens are inert
        words = " ".join(str(number) for number in range(2, 601))
        assert text_of(events) == f"{given} what it shows {words}"
        counts = [event.tokens for event in events if isinstance(event, Written)]
        assert counts == sorted(counts)
        assert counts[-1] == 600
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.ending is Ending.TOKENS
        assert set(finished.timings) == {"write", "total"}
        assert finished.card_use is not None
        rest = {type(event) for event in events[:-1]}
        assert rest == {Loading, Loaded, Written}
        assert engine.state is EngineState.IDLE
        pid = engine.pid
        await draw_well(engine, request(tmp_path, "draw"))
        assert engine.pid == pid


async def test_a_cancel_ends_it_and_the_child_goes_on(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        found = []
        with pytest.raises(GenerationCancelled):
            async with asyncio.timeout(60):
                async for event in engine.generate(asked("hold")):
                    if isinstance(event, Written):
                        found.append(event)
                        await engine.cancel("job1")
        assert found[0].text == "one"
        assert found[-1].tokens < 8
        pid = engine.pid
        assert text_of(await draw(engine, asked())).endswith(" 8")
        assert engine.pid == pid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "kind"),
    [
        ("too-many", Kind.GARBLED),
        ("hang", Kind.SILENT),
        *(
            pytest.param(act, kind, marks=pytest.mark.slow)
            for act, kind in (
                ("draws", Kind.GARBLED),
                ("backwards", Kind.GARBLED),
                ("long", Kind.GARBLED),
                ("no-ending", Kind.GARBLED),
                ("die", Kind.DIED),
                ("repeat", Kind.SILENT),
            )
        ),
    ],
)
async def test_a_child_that_misbehaves_is_replaced(tmp_path, monkeypatch, act, kind) -> None:
    async with misbehaving(tmp_path, monkeypatch, limits=QUICK) as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, asked(act))
        assert caught.value.kind is kind
        assert text_of(await draw(engine, asked())).endswith(" 8")


async def test_one_that_writes_where_it_is_to_draw_is_not_believed(tmp_path, monkeypatch) -> None:
    async with misbehaving(tmp_path, monkeypatch) as engine:
        with pytest.raises(EngineError, match="where it was to draw") as caught:
            await draw(engine, request(tmp_path, "writes"))
        assert caught.value.kind is Kind.GARBLED


async def test_refusals_time_and_logs(tmp_path, monkeypatch, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    async with misbehaving(tmp_path, monkeypatch, limits=SilenceLimits(cancel=1.0)) as engine:
        with pytest.raises(EngineError) as caught:
            await draw(engine, asked("refuse"))
        assert (caught.value.kind, caught.value.values) == (Kind.REFUSED, {"name": "owl"})
        pid = engine.pid
        secret = asked("chatty my-secret-garden", system="the-owner-says-so")
        with pytest.raises(EngineError) as caught:
            await draw(engine, secret)
        assert caught.value.kind is Kind.RAISED
        assert engine.pid == pid
        with pytest.raises(EngineError) as caught:
            await draw(engine, asked("hold", time_limit_s=0.2))
        assert caught.value.kind is Kind.OVERTIME
    assert "secret-garden" not in caplog.text
    assert "owner-says" not in caplog.text
    assert "secret-garden" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.asyncio(loop_scope="session")
async def test_the_tiny_model_writes_in_its_real_child(warm_tiny, tmp_path) -> None:
    """With untrained weights: nothing of sense, but always the same, and from all it is given."""
    pictures = []
    for colour in ("red", "blue"):
        pictures.append(tmp_path / f"{colour}.png")
        Image.new("RGB", (224, 224), colour).save(pictures[-1])
    asks = {
        "plain": asked("a cat", temperature=0.0, max_tokens=40),
        "other": asked("two dogs", temperature=0.0, max_tokens=40),
        "red": asked("a cat", temperature=0.0, max_tokens=40, references=(pictures[0],)),
        "blue": asked("a cat", temperature=0.0, max_tokens=40, references=(pictures[1],)),
        "both": asked("a cat", temperature=0.0, max_tokens=40, references=tuple(pictures)),
        "chance": asked("a cat", temperature=1.5, max_tokens=40),
    }
    answers = {}
    for name, wanted in asks.items():
        events = await draw(warm_tiny, wanted)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.ending in {Ending.TOKENS, Ending.STOPPED}
        assert set(finished.timings) == {"encode", "room", "write", "back", "total"}
        answers[name] = text_of(events)
        assert text_of(await draw(warm_tiny, wanted)) == answers[name]
    assert len(set(answers.values())) >= 5  # some stop at once
    assert answers["red"] != answers["blue"]
    await draw_well(warm_tiny, request(tmp_path, "a lighthouse"))
