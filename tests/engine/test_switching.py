"""One engine that is switched from model to model: real networks, most in a real child."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from bot.engine.files.find import cache_folder
from bot.engine.models.switching import ModelSwitch
from bot.engine.options import Activity, EngineOptions, SilenceLimits
from bot.engine.parent.process import EngineProcess
from bot.engine.parent.watch import JobWatch
from bot.engine.protocol import EngineState, Finished, Loaded, Loading, Step, Switched, Written
from bot.errors import EngineError, EngineErrorKind, GenerationCancelled
from tests.engine.kit import Quiet, draw, draw_well, react, request
from tests.engine.small_models import (
    QWEN,
    SDXL,
    TURBO,
    build_streamed,
    small,
    stock_family,
    streamed_family,
    write,
)

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.engine]
in_a_child = pytest.mark.asyncio(loop_scope="module")
PROMPT = "a red circle"
TINIES = ("tiny", "tiny-ink")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tinies(tmp_path_factory):
    """An engine of two toy models, and the folder in which `tiny-ink` is held."""
    folder = tmp_path_factory.mktemp("tinies")
    options = EngineOptions(
        folder, lora_path=folder, models=TINIES, pipeline="tests.engine.two_tiny:build"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        engine = EngineProcess("tiny", options=options)
        try:
            yield engine, folder
        finally:
            await engine.close()


async def picture(engine, folder, model, **changes) -> bytes:
    await draw_well(engine, request(folder, PROMPT, model=model, **changes))
    return (folder / "0.png").read_bytes()


def parts(events) -> set[str]:
    """The stages of loading that were told."""
    return {event.stage for event in events if isinstance(event, Loading)}


@pytest.mark.slow
@in_a_child
async def test_there_and_back_the_pictures_are_the_same(tinies, tmp_path) -> None:
    engine, _ = tinies
    tiny, ink = [await picture(engine, tmp_path, model) for model in TINIES]
    assert tiny != ink
    events = await draw_well(engine, request(tmp_path, PROMPT, model="tiny", steps=2))
    assert [event.model for event in events if isinstance(event, Switched)] == ["tiny"]
    assert not [event for event in events if isinstance(event, Loaded)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert 0 < finished.timings["switch"] < finished.timings["total"]
    assert await picture(engine, tmp_path, "tiny-ink") == ink
    assert await picture(engine, tmp_path, "tiny") == tiny
    # Without a name it is the engine's own model, and nothing is switched.
    events = await draw_well(engine, request(tmp_path, PROMPT))
    assert not [event for event in events if isinstance(event, Loading | Switched)]
    assert (tmp_path / "0.png").read_bytes() == tiny


@pytest.mark.slow
@in_a_child
async def test_a_switch_is_cancelled_midway(tinies, tmp_path) -> None:
    engine, folder = tinies
    tiny = await picture(engine, tmp_path, "tiny")
    pid, seen = engine.pid, []
    (folder / "hold").touch()

    async def cancel(event) -> None:
        seen.append(event)
        if event == Loading("held"):
            await engine.cancel("job1")

    with pytest.raises(GenerationCancelled):
        await react(engine, request(tmp_path, model="tiny-ink"), cancel)
    assert isinstance(seen[-1], Switched)
    assert seen[-1].model is None
    assert engine.state is EngineState.IDLE
    # What no model was given up for is loading, which is nobody's.
    events = await draw_well(engine, request(tmp_path, PROMPT, model="tiny"))
    assert "switch" not in events[-1].timings
    assert (tmp_path / "0.png").read_bytes() == tiny
    assert engine.pid == pid
    (folder / "go").touch()


def test_a_switch_has_the_limits_of_loading_and_takes_no_time_of_the_job(tmp_path) -> None:
    limits = SilenceLimits(switch=10.0, encode=5.0, whole_load=1000.0)
    watch = JobWatch(request(tmp_path, time_limit_s=30.0), limits)
    watch.note_activity(Activity.SWITCH)
    for share in range(90):
        watch.note(Loading("loading the transformer", share / 90))
        assert watch.silence_left_s() == 10.0
        watch.note_wait(9.0)
        watch.check()
    for _ in range(2):  # the same again is no progress
        watch.note(Loading("loading the transformer", 89 / 90))
        watch.note_wait(9.0)
    with pytest.raises(EngineError, match="no progress in 10 s of switch"):
        watch.check()
    watch.note_activity(Activity.ENCODE)
    assert watch.left_s() == 30.0
    assert watch.silence_left_s() == 5.0
    # Once the picture is being drawn, whoever says that it switches gains no time.
    watch.note(Step(1, 4))
    watch.note_activity(Activity.SWITCH)
    watch.note_wait(29.0)
    assert watch.left_s() == 1.0
    watch = JobWatch(request(tmp_path, time_limit_s=30.0), limits)
    watch.note(Written("a", 1))  # nor once a text is being written
    watch.note_activity(Activity.SWITCH)
    watch.note_wait(29.0)
    assert watch.left_s() == 1.0


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Qwen-Image-2.1 and its Turbo as files: two transformers, the same text encoder and VAE."""
    root = tmp_path_factory.mktemp("models")
    write(QWEN, root)
    write(TURBO, root, transformer_seed=4)
    (root / "loras").mkdir()
    return root


def options_of(root: Path, **changes) -> EngineOptions:
    options = EngineOptions(
        root,
        lora_path=root / "loras",
        pipeline="tests.engine.small_models:build_streamed",
        compile=False,
        models=(QWEN, TURBO),
    )
    return replace(options, **changes)


TRANSFORMER, ENCODER = "loading the transformer", "loading the text encoder"


@pytest.mark.slow
@pytest.mark.timeout(240)
@in_a_child
async def test_files_main_memory_and_what_is_shared(models, tmp_path, monkeypatch) -> None:
    """From the files, from the cache on the disk, from main memory: the same pictures."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = {}
    for keep in (0.0, 1.0):
        engine = EngineProcess(QWEN, options=options_of(models, keep_gib=keep))
        try:
            for number, model in enumerate((QWEN, TURBO, QWEN, TURBO)):
                wanted = request(tmp_path, PROMPT, model=model, steps=2, guidance=1.0)
                events = await draw_well(engine, wanted)
                found[keep, number] = (tmp_path / "0.png").read_bytes(), parts(events)
        finally:
            await engine.close()
    pictures = {key: data for key, (data, _) in found.items()}
    assert {pictures[keep, n] for keep in (0.0, 1.0) for n in (0, 2)} == {pictures[0.0, 0]}
    assert {pictures[keep, n] for keep in (0.0, 1.0) for n in (1, 3)} == {pictures[0.0, 1]}
    assert pictures[0.0, 0] != pictures[0.0, 1]
    # Once it has a cache, the text encoder is known to be the same: it is loaded once.
    told = {key: stages & {TRANSFORMER, ENCODER} for key, (_, stages) in found.items()}
    assert [told[0.0, n] for n in (2, 3)] == [{TRANSFORMER}, {TRANSFORMER}]
    assert [told[1.0, n] for n in range(4)] == [{TRANSFORMER, ENCODER}, {TRANSFORMER}, set(), set()]


@pytest.mark.slow
@pytest.mark.timeout(240)
@in_a_child
async def test_what_cannot_be_switched_to_fails_its_job_alone(models, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    models = shutil.copytree(models, tmp_path / "models")
    engine = EngineProcess(QWEN, options=options_of(models, keep_gib=0.0))
    plain = {"steps": 2, "guidance": 1.0}
    try:
        before = await picture(engine, tmp_path, QWEN, **plain)
        await picture(engine, tmp_path, TURBO, **plain)
        pid = engine.pid
        cache = cache_folder(models, TURBO, "fp8")
        weights = cache / "transformer.weights"
        weights.write_bytes(bytes(weights.stat().st_size))
        for path in (models / TURBO / "transformer").glob("*.safetensors"):
            path.unlink()
        assert await picture(engine, tmp_path, QWEN, **plain) == before
        # Damaged: known only when the old model has left. Gone: before.
        for words in ("The weights cache is damaged", "could not be downloaded"):
            with pytest.raises(EngineError) as caught:
                await draw(engine, request(tmp_path, PROMPT, model=TURBO, **plain))
            assert caught.value.kind is EngineErrorKind.SWITCH_FAILED
            assert words in caught.value.sentence
            assert not caught.value.loading
            assert await picture(engine, tmp_path, QWEN, **plain) == before
        assert engine.pid == pid
        await engine.unload()
        # An engine that holds none says the same, and has its own model then.
        events = []

        async def note(event) -> None:
            events.append(event)

        with pytest.raises(EngineError) as caught:
            await react(engine, request(tmp_path, PROMPT, model=TURBO, **plain), note)
        assert caught.value.kind is EngineErrorKind.SWITCH_FAILED
        assert [event.model for event in events if isinstance(event, Loaded)] == [QWEN]
        assert await picture(engine, tmp_path, QWEN, **plain) == before
    finally:
        await engine.close()


@pytest.mark.slow
def test_the_old_transformer_is_gone_before_the_new_one_is_loaded(models, tmp_path) -> None:
    """Also while the text encoder and the VAE, which both share, stay as they are."""
    with small(), streamed_family():
        switch = ModelSwitch(QWEN, options_of(models, keep_gib=0.0))
        for model in (QWEN, TURBO):  # both have a cache then
            switch.switch(model, lambda *_: None)
        networks = switch._backend._networks
        old, encoder = weakref.ref(networks.dit), networks.embedder
        del networks
        there: list[tuple[str, bool]] = []
        switch.switch(QWEN, lambda stage, *_: there.append((stage, old() is not None)))
        assert ("importing libraries", True) in there
        assert {held for stage, held in there if stage == TRANSFORMER} == {False}
        assert switch._backend._networks.embedder is encoder
        assert switch.held == QWEN


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("keep_gib", [0.0, 1.0])
def test_to_sdxl_and_back(models, tmp_path, keep_gib) -> None:
    """DiffSynth's pipeline and the streamed networks take turns, and neither holds on to any."""
    root = shutil.copytree(models, tmp_path / "models")
    write(SDXL, root)

    def there(switch, model: str) -> tuple[bytes, list[weakref.ref]]:
        """Its picture, and what of it is large."""
        switch.switch(model, lambda *_: None)
        (made,) = switch.generate(request(tmp_path, PROMPT, steps=2, guidance=1.0), Quiet())
        if model == SDXL:
            pipe = switch._backend._pipe.stock
            held = [pipe, pipe.unet, pipe.text_encoder, pipe.text_encoder_2, pipe.vae]
        else:
            networks = switch._backend._networks
            held = [networks.dit, networks.embedder, networks.codec]
        return made.image.tobytes(), [weakref.ref(one) for one in held]

    with small(), streamed_family(), stock_family(SDXL):
        options = options_of(root, models=(QWEN, SDXL), keep_gib=keep_gib)
        switch = ModelSwitch(QWEN, options)
        streamed, networks = there(switch, QWEN)
        drawn, parts = there(switch, SDXL)
        # On the card is one of them. In main memory the streamed ones wait where they may.
        kept = [one() is not None for one in networks]
        assert kept == [keep_gib > 0] * 3
        assert (switch._shelf.waiting_bytes > 0) == (keep_gib > 0)
        again, returned = there(switch, QWEN)
        assert [one() for one in parts] == [None] * 5
        assert again == streamed
        assert switch._shelf.waiting_bytes == 0
        if keep_gib:
            assert [one() for one in returned] == [one() for one in networks]
        assert there(switch, SDXL)[0] == drawn
        assert switch.held == SDXL
        assert len({streamed, drawn}) == 2


@pytest.mark.slow
def test_loras_and_previews_are_those_of_the_model(models, tmp_path) -> None:
    with small(), streamed_family():
        switch = build_streamed(QWEN, options_of(models, keep_gib=1.0))
        switch.load(lambda *_: None)
        report = Quiet()
        wanted = request(tmp_path, PROMPT, steps=4, guidance=1.0)
        for model in (TURBO, QWEN):
            switch.switch(model, lambda *_: None)
            assert len(list(switch.generate(wanted, report))) == 1
            assert switch._backend._networks.dit.residency.lora_bytes == 0
        assert report.previews == 6
