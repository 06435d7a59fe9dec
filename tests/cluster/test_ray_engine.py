"""An engine on a node of a Ray cluster: what it draws, how it stops, and how it breaks."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image

from bot.engine.protocol import (
    Ending,
    EngineState,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Step,
    WriteRequest,
    Written,
)
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.cluster.kit import (
    environment_of,
    membership,
    parent_of,
    processes_below,
    ray_nodes,
)
from tests.crash.test_engine_dies_too import gone
from tests.engine.kit import draw, draw_well, react, request
from tests.engine.misbehaving import CARD_USE, numbered_jpeg

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(90)]

CANARY = "canary-that-no-process-of-ray-may-know"


@pytest.fixture(scope="module")
def nodes():
    with ray_nodes() as found:
        found.add(2)
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def members(nodes, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DISCORD_TOKEN", CANARY)
        patch.setenv("API_KEYS", f"someone:{CANARY}")
        async with membership(nodes.address, tmp_path_factory.mktemp("model")) as (found, watcher):
            await found.until(lambda: len(found.engines) == 2)
            found.driver = watcher.driver_pid
            yield found


@pytest_asyncio.fixture(loop_scope="module")
async def engine(members):
    found = members.engines[min(members.engines)]
    yield found
    await found.unload()  # what a prompt did to the child is the child's


def files_below(folder: str, pattern: str = "*") -> list[Path]:
    return [path for path in Path(os.environ[folder]).rglob(pattern) if path.is_file()]


async def fails(engine, wanted) -> EngineError:
    with pytest.raises(EngineError) as caught:
        await draw(engine, wanted)
    return caught.value


async def test_each_gpu_has_an_engine_of_its_own(members, tmp_path):
    first, second = (members.engines[name] for name in sorted(members.engines))
    for number, one in enumerate((first, second)):
        (tmp_path / str(number)).mkdir()
        await draw_well(one, request(tmp_path / str(number)))
    given = [environment_of(one.pid) for one in (first, second)]
    assert ["CUDA_VISIBLE_DEVICES=0" in one for one in given] == [True, False]
    assert ["CUDA_VISIBLE_DEVICES=1" in one for one in given] == [False, True]
    assert "OMP_NUM_THREADS=" not in given[0]  # Ray gives its actor one thread
    names = sorted(members.engines)  # by the card, in whatever order Ray hands these out
    assert [name[-2:] for name in names] == ["-0", "-1"]
    assert names[0][:-2] == names[1][:-2] != ""


async def test_events_come_in_order(engine, tmp_path):
    await engine.unload()
    assert engine.state is EngineState.STOPPED
    events = await draw(engine, request(tmp_path, "film", seeds=(1, 2), steps=9))
    kinds = [type(event) for event in events]
    assert kinds[0] is Loading
    begun = kinds.index(Loaded) + 1
    assert events[begun - 1].card_use == CARD_USE
    assert events[-1].card_use == replace(CARD_USE, resident=20)
    assert set(kinds[: begun - 1]) == {Loading}
    assert kinds[begun:] == [Step, *[Step, Preview] * 8, Picture, Picture, Finished]
    assert [e.index for e in events if isinstance(e, Step)] == list(range(1, 10))
    previews = [e.data for e in events if isinstance(e, Preview)]
    assert previews == [numbered_jpeg(index) for index in range(2, 10)]
    assert [e.path for e in events if isinstance(e, Picture)] == [
        tmp_path / "0.png",
        tmp_path / "1.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.png", "1.png"]
    assert engine.state is EngineState.IDLE


async def test_a_large_picture_arrives_whole(engine, tmp_path):
    wanted = request(tmp_path, "noise", width=2048, height=1536)
    await draw_well(engine, wanted)
    path = tmp_path / "0.png"
    assert path.stat().st_size > 9_000_000
    with Image.open(path) as image:
        image.load()
        assert image.size == (2048, 1536)


async def test_all_of_a_requests_pictures_get_there_and_nothing_stays(engine, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    files = [tmp_path / name for name in ("of-a-user", "its-mask", "another", "and-one-more")]
    for file in files:
        Image.frombytes("RGB", (256, 256), os.urandom(3 * 256 * 256)).save(file, format="PNG")
    source, mask, *references = files
    wanted = {"input_image": source, "mask": mask, "references": tuple(references)}
    await draw_well(engine, request(out, "copy", **wanted, seeds=(1, 2, 3, 4)))
    for index, file in enumerate(files):
        with Image.open(file) as sent, Image.open(out / f"{index}.png") as drawn:
            assert sent.tobytes() == drawn.tobytes()
    assert {path.name for path in files_below("TMPDIR", "image-bot-*/**/*")} == {"lock"}


async def test_a_cancel_gets_through_while_it_draws(engine, tmp_path):
    async def on_event(event) -> None:
        if isinstance(event, Step) and event.index == 50:
            await engine.cancel("another")
        if isinstance(event, Step) and event.index == 100:
            await engine.cancel("job1")

    with pytest.raises(GenerationCancelled):
        await react(engine, request(tmp_path, "steps"), on_event)
    assert engine.state is EngineState.IDLE
    child = engine.pid
    await draw_well(engine, request(tmp_path))
    assert engine.pid == child


async def test_closing_the_iterator_stops_the_work(engine, tmp_path):
    await draw_well(engine, request(tmp_path))
    child, events = engine.pid, engine.generate(request(tmp_path, "steps"))
    async for event in events:
        if isinstance(event, Step):
            break
    await events.aclose()
    assert engine.state is EngineState.IDLE
    await draw_well(engine, request(tmp_path, job="job2"))
    assert engine.pid == child


async def test_errors_keep_their_kind_and_words(engine, tmp_path):
    await draw_well(engine, request(tmp_path))
    child = engine.pid
    error = await fails(engine, request(tmp_path, "oom"))
    assert error.kind is EngineErrorKind.OUT_OF_MEMORY
    assert "20.00 GiB" in error.detail
    error = await fails(engine, request(tmp_path, "raise the secret prompt"))
    assert error.kind is EngineErrorKind.RAISED
    assert "secret" not in error.detail
    error = await fails(engine, request(tmp_path, "long-sentence"))
    assert error.sentence.startswith("Long. ")
    assert len(error.sentence) == 300
    assert engine.pid == child


@pytest.mark.parametrize(
    ("prompt", "kind"),
    [
        ("sigkill", EngineErrorKind.DIED),
        ("exit", EngineErrorKind.DIED),
        ("oversized", EngineErrorKind.GARBLED),
        ("wrong-job", EngineErrorKind.GARBLED),
        ("twice", EngineErrorKind.GARBLED),
        ("outside", EngineErrorKind.GARBLED),
        ("symlink", EngineErrorKind.GARBLED),
        ("truncated", EngineErrorKind.GARBLED),
        ("no-file", EngineErrorKind.GARBLED),
        ("nan", EngineErrorKind.GARBLED),
    ],
)
async def test_a_broken_child_is_replaced(engine, tmp_path, prompt, kind):
    out = tmp_path / "out"
    out.mkdir()
    error = await fails(engine, request(out, prompt))
    assert error.kind is kind
    assert not error.loading
    await draw_well(engine, request(out))


async def test_a_disk_that_refuses_is_told(engine, tmp_path):
    # Gone from the beginning: were it taken away on the way, a picture might be there already.
    with pytest.raises(EngineError) as caught:
        await draw(engine, request(tmp_path / "gone", "film", seeds=(1, 2, 3)))
    assert caught.value.kind is EngineErrorKind.RAISED
    assert "FileNotFoundError" in caught.value.detail
    await draw_well(engine, request(tmp_path, job="job2"))


async def test_kill_9_of_the_actor(engine, tmp_path):
    await draw_well(engine, request(tmp_path))
    actor, watched = parent_of(engine.pid), os.pidfd_open(engine.pid)

    async def on_event(event) -> None:
        if isinstance(event, Step) and event.index == 20:
            os.kill(actor, signal.SIGKILL)

    with pytest.raises(EngineError) as caught:
        await react(engine, request(tmp_path, "steps"), on_event)
    assert caught.value.kind is EngineErrorKind.DIED
    assert not caught.value.loading
    await gone(watched)
    await draw_well(engine, request(tmp_path))
    assert parent_of(engine.pid) != actor


async def test_kill_9_of_an_idle_actor_costs_no_job(engine, tmp_path):
    await draw_well(engine, request(tmp_path))
    os.kill(parent_of(engine.pid), signal.SIGKILL)
    await draw_well(engine, request(tmp_path))


async def test_an_idle_engine_whose_child_ended_says_so(engine, tmp_path):
    await draw_well(engine, request(tmp_path))
    os.kill(engine.pid, signal.SIGKILL)
    with pytest.raises(EngineError) as caught:  # told with the next look at the nodes
        await engine._process._supervisor.link.inbox.receive(30, "waiting for the end")
    assert caught.value.kind is EngineErrorKind.DIED
    assert engine.state is EngineState.STOPPED


async def test_no_process_and_no_file_of_ray_knows_a_secret(members, tmp_path, caplog):
    pids = {members.driver}
    for engine in members.engines.values():
        error = await fails(engine, request(tmp_path, f"chatty {CANARY}"))
        assert error.kind is EngineErrorKind.RAISED
        pids |= {engine.pid, *processes_below(parent_of(parent_of(engine.pid)))}
    assert len(pids) > 5
    assert os.environ["DISCORD_TOKEN"] == CANARY
    assert not [pid for pid in pids if CANARY in environment_of(pid)]
    files = files_below("RAY_TMPDIR")
    assert any("NodeActor" in path.read_text(errors="replace") for path in files)
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]
    # The child's lines are in the bot's log, without what was typed.
    assert "Traceback" in caplog.text
    assert CANARY not in caplog.text


async def test_a_full_disk_of_the_node_is_not_the_bots(engine, tmp_path):
    error = await fails(engine, request(tmp_path, "full-disk"))
    assert error.kind is EngineErrorKind.REFUSED
    assert error.sentence.startswith("The disk of the machine that draws this is full.")
    await draw_well(engine, request(tmp_path))


async def test_a_text_is_written_on_the_node_after_pictures_of_the_bot(engine, tmp_path):
    """What is asked for, the pictures' files, the pieces, a cancel and a child that draws."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"shows {name}. ")
    references = tuple(tmp_path / name for name in ("a", "b"))
    wanted = WriteRequest("job1", "You help.", "words", references=references, max_tokens=30)
    events = await draw(engine, wanted)
    text = "".join(event.text for event in events if isinstance(event, Written))
    assert "shows a. shows b. " in text
    assert text.endswith(" 29 30")
    assert isinstance(events[-1], Finished)
    assert events[-1].ending is Ending.TOKENS

    async def on_event(event):
        if isinstance(event, Written):
            await engine.cancel("job2")

    await react_cancelled(engine, WriteRequest("job2", "You help.", "hold"), on_event)
    assert (await fails(engine, WriteRequest("job3", "You help.", "draws"))).kind is (
        EngineErrorKind.GARBLED
    )
    await draw_well(engine, request(tmp_path, "draw"))
    assert not [path for path in files_below("TMPDIR") if path.name.startswith("reference-")]


async def react_cancelled(engine, wanted, on_event):
    with pytest.raises(GenerationCancelled):
        await react(engine, wanted, on_event)
