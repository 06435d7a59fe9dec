"""Which LoRAs users may choose, what their words mean, and what `fast` draws with."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from dataclasses import replace

import pytest

from bot.catalogue.lightning import SERIES, Lightning, ranked
from bot.catalogue.lora_rules import LoraChoice, LoraRules
from bot.catalogue.loras import LoraCache, LoraFolder, Loras
from bot.catalogue.models import ModelSpec, find_model
from bot.config.settings import load_settings
from bot.domain.job import ImageRecord, Job, JobState, Target
from bot.domain.request import ImageRequest
from bot.errors import ConfigError, InvalidRequest
from bot.jobs.compose import Asked, Surroundings, compose
from bot.jobs.derive import finished

QWEN = find_model("Qwen/Qwen-Image")
PIXEL = LoraChoice("Pixel art", "pixel-v2", 0.8, "pixel art, 16-bit")
LORAS = Loras((PIXEL, LoraChoice("ink", "ink")))
NEWEST = find_model("Qwen/Qwen-Image-2.1")
EIGHT = "Qwen-Image-Lightning-8steps-V2.0-bf16"
FOUR = "Qwen-Image-2.1-Lightning-4steps-V1.0-bf16"


def folder(path, rules: str = "*", *files: str, model: ModelSpec = QWEN, **changes) -> LoraFolder:
    for file in files:
        (path / f"{file}.safetensors").touch()
    return LoraFolder(path, LoraRules.parse(rules), model, **changes)


def composed(loras: Loras = LORAS, model: ModelSpec = QWEN, **asked) -> ImageRequest:
    return compose(Asked("a boat", **asked), Surroundings(model, loras=loras))


def test_the_setting_names_files_strengths_and_words():
    text = "Pixel art=pixel-v2.safetensors:0.8 (pixel art, 16-bit), ink, old=b c:-1,*"
    assert LoraRules.parse(text) == LoraRules(
        (PIXEL, LoraChoice("ink", "ink"), LoraChoice("old", "b c", -1.0)), others=True
    )
    assert LoraRules.parse("*") == LoraRules()
    assert LoraRules.parse(" None ") == LoraRules(others=False)
    assert not LoraRules.parse("ink").others


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a=b=c", "entry 1 is not like NAME=FILE:STRENGTH (WORDS)"),
        ("ink, a (b", "entry 2 is not like"),
        ("ink,,", "entry 2 is not like"),
        ("ink:strong", "strength of its entry 1 is no number"),
        ("ink:nan", "strength of its entry 1 must be from -4 to 4"),
        ("ink, x=ink:9", "strength of its entry 2 must be from -4 to 4"),
        ("x=../secret", "file of its entry 1 must lie in IMAGE_LORA_PATH"),
        ("sub/ink", "file of its entry 1 must lie"),
        ("=ink", "entry 1 is not like"),
        (f"{'n' * 61}=ink", "name of its entry 1 is longer than 60"),
        ("Ink=a, ink=b", "two of its entries have the same name"),
    ],
)
def test_a_wrong_setting_is_one_sentence(monkeypatch, text, said):
    monkeypatch.setenv("IMAGE_LORAS", text)
    with pytest.raises(ConfigError) as caught:
        load_settings(_env_file=None)
    assert "IMAGE_LORAS: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_folder_is_offered_as_the_setting_says(tmp_path):
    files = ("pixel-v2", "ink", EIGHT, "café (1)")
    every = folder(tmp_path, "*", *files).look()
    assert [choice.file for choice in every.choices] == ["ink", "pixel-v2"]
    assert every.unusable == ("café (1)",)
    some = folder(tmp_path, "Pixel art=pixel-v2:0.8 (pixel art, 16-bit), gone").look()
    assert (some.choices, some.missing) == ((PIXEL,), ("gone",))
    both = folder(tmp_path, f"Ink=pixel-v2, {EIGHT}, *").look()
    assert [choice.name for choice in both.choices] == ["Ink", EIGHT]
    assert folder(tmp_path, "none").look().choices == ()
    assert folder(tmp_path / "nowhere").look() == Loras()


def test_a_model_or_a_way_without_loras_says_so(tmp_path):
    without = ModelSpec("a", "sdxl", QWEN.sizes, QWEN.qualities, QWEN.largest_side)
    for known, said in (
        (folder(tmp_path, "*", "ink", EIGHT, model=without).look(), "This model draws without"),
        (folder(tmp_path, streamed=False).look(), "IMAGE_OFFLOAD=stream only"),
    ):
        assert (known.choices, known.lightning) == ((), None)
        with pytest.raises(InvalidRequest, match=said):
            composed(known, lora="ink")
        assert composed(known, quality="fast").loras == ()


@pytest.mark.parametrize("text", ["pixel ART", " Pixel  art ", "PIXEL-v2", "pixel-v2.safetensors"])
def test_a_name_is_found_in_any_case(text):
    assert LORAS.find(text) is PIXEL


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(InvalidRequest) as caught:
        LORAS.find("*nope*")
    assert caught.value.sentence == (
        "There is no LoRA of that name; there are: `Pixel art`, `ink`."
    )
    with pytest.raises(InvalidRequest, match="there are none"):
        Loras().find("ink")
    many = Loras(tuple(LoraChoice(f"{n:03}{'x' * 97}", f"f{n}") for n in range(40)))
    with pytest.raises(InvalidRequest) as caught:
        many.find("nope")
    assert len(caught.value.sentence) < 2000


def test_completion_looks_at_names_files_and_words():
    assert LORAS.like("16-BIT") == [PIXEL]
    assert LORAS.like("") == list(LORAS.choices)
    both = Loras((LoraChoice("thin ink", "a"), LoraChoice("ink", "b")))
    assert [choice.name for choice in both.like("in")] == ["ink", "thin ink"]


def test_a_request_has_the_file_its_strength_and_its_words():
    request = composed(lora="pixel art")
    assert request.loras == ("pixel-v2:0.8",)
    assert (request.added, request.shift) == ("pixel art, 16-bit", None)
    assert composed(lora="Pixel art", lora_strength=-0.25).loras == ("pixel-v2:-0.25",)
    assert composed(lora="none").loras == composed().loras == ()
    styled = composed(lora="Pixel art", style="anime")
    assert styled.added.startswith("pixel art, 16-bit, ")
    again = compose(Asked("PIXEL ART, 16-bit boat", lora="ink"), Surroundings(QWEN, loras=LORAS))
    assert again.added == ""
    typed = compose(
        Asked("a boat, Pixel Art, 16-bit", lora="pixel art"), Surroundings(QWEN, loras=LORAS)
    )
    assert typed.added == ""
    with pytest.raises(InvalidRequest, match="Choose a LoRA"):
        composed(lora_strength=0.5)


def test_a_lightning_file_draws_what_is_fast(tmp_path):
    known = folder(tmp_path, "*", "ink", EIGHT).look()
    assert known.lightning == Lightning(EIGHT, 8)
    fast = composed(known, quality="fast", lora="ink", lora_strength=0.5)
    assert (fast.steps, fast.guidance, fast.shift) == (8, 1.0, 3.0)
    assert fast.lora_strengths() == ((EIGHT, 1.0), ("ink", 0.5))
    own = composed(known, quality="fast", steps=6, guidance=2.0)
    assert (own.steps, own.guidance, own.shift) == (6, 2.0, 3.0)
    for request in (composed(known), composed(known, quality="high")):
        assert (request.loras, request.shift) == ((), None)
    before = composed(Loras(), quality="fast")
    assert (before.steps, before.guidance, before.shift) == (20, 4.0, None)
    listed = folder(tmp_path, f"L={EIGHT}").look()
    assert composed(listed, quality="fast", lora="L").loras == (f"{EIGHT}:1",)
    assert folder(tmp_path, fast_is_set=True).look().lightning is None


def test_each_model_is_drawn_fast_with_its_own_lightning_file(tmp_path):
    """Qwen-Image-2.1's has four steps at evenly spaced levels; its Turbo has none."""
    known = folder(tmp_path, "*", EIGHT, FOUR, model=NEWEST, several=True).look()
    assert known.lightning == Lightning(FOUR, 4, 1.0)
    fast = composed(known, NEWEST, quality="fast")
    assert (fast.steps, fast.guidance, fast.shift) == (4, 1.0, 1.0)
    assert fast.lora_strengths() == ((FOUR, 1.0),)
    own = composed(known, NEWEST, quality="fast", steps=7, guidance=2.0)
    assert (own.steps, own.guidance, own.shift) == (7, 2.0, 1.0)
    by_hand = folder(tmp_path, FOUR, model=NEWEST).look()
    standard = composed(by_hand, NEWEST, lora=FOUR, steps=6)
    assert (standard.steps, standard.shift, standard.loras) == (6, None, (f"{FOUR}:1",))
    other = composed(folder(tmp_path, several=True).look(), quality="fast")
    assert (other.steps, other.shift, other.loras) == (8, 3.0, (f"{EIGHT}:1",))
    turbo = find_model("Qwen/Qwen-Image-2.1-Turbo")
    seen = folder(tmp_path, model=turbo, several=True).look()
    assert seen.lightning is None
    assert composed(seen, turbo, quality="fast").loras == ()


async def test_a_lightning_file_with_another_models_layers_draws_nothing(tmp_path, caplog):
    lora_for(tmp_path / f"{FOUR}.safetensors", "img_mlp.net.0.proj")
    known = folder(tmp_path, model=NEWEST).look()
    assert (known.lightning, known.misnamed) == (None, (FOUR,))
    assert composed(known, NEWEST, quality="fast").steps == 20
    with caplog.at_level(logging.WARNING):
        await LoraCache(folder(tmp_path, model=NEWEST)).start()
    assert f"{FOUR}.safetensors has another model's layers" in caplog.text
    older = FOUR.replace("V1.0", "V0.9")
    lora_for(tmp_path / f"{older}.safetensors", "img_mlp.gate_layer")
    assert folder(tmp_path, model=NEWEST).look().lightning == Lightning(older, 4, 1.0)
    lora_for(tmp_path / f"{FOUR}.safetensors", "img_mlp.gate_layer", "attn.to_q")
    known = folder(tmp_path, model=NEWEST).look()
    assert (known.lightning, known.misnamed) == (Lightning(FOUR, 4, 1.0), ())


def test_the_best_lightning_file_of_the_model_counts():
    eight, four = (SERIES[QWEN.name].published(n).removesuffix(".safetensors") for n in (8, 4))
    assert (eight, four) == (EIGHT, "Qwen-Image-Lightning-4steps-V2.0-bf16")
    older = "Qwen-Image-Lightning-8steps-V1.1-bf16"
    full = "Qwen-Image-Lightning-8steps-V2.0"
    other = "Qwen-Image-2512-Lightning-8steps-V1.0-bf16"
    edit = "Qwen-Image-Edit-Lightning-8steps-V1.0"
    every = [four, older, full, eight, other, FOUR]
    found = [one.file for one in ranked(QWEN.name, every)]
    assert found == [eight, full, older, four]
    assert ranked(QWEN.name, [four, other, edit]) == [Lightning(four, 4)]
    assert ranked(QWEN.name, [edit, other, "ink"]) == []
    assert ranked("Qwen/Qwen-Image-2512", every) == [Lightning(other, 8)]
    found = ["Qwen-Image-Edit-2511-Lightning-8steps-V1.0-bf16", edit]
    assert ranked("Qwen/Qwen-Image-Edit-2511", [*every, *found]) == [Lightning(found[0], 8)]
    assert ranked("Qwen/Qwen-Image-Edit-2509", [*every, *found]) == []
    assert SERIES[NEWEST.name].published(4) == f"{FOUR}.safetensors"
    assert ranked(NEWEST.name, every) == [Lightning(FOUR, 4, 1.0)]
    assert ranked("tiny", every) == []


def lora_for(path, *layers: str) -> None:
    """Write a LoRA of rank 1 that changes these layers of a block."""
    header, at = {}, 0
    for layer in layers:
        for part, shape in (("lora_A", [1, 8]), ("lora_B", [8, 1])):
            place = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 16]}
            header[f"transformer_blocks.0.{layer}.{part}.weight"] = place
            at += 16
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(at))


def test_of_several_models_each_has_the_loras_that_are_made_for_it(tmp_path):
    shelf = {
        "old": ["img_mlp.net.0.proj"],
        "new": ["img_mlp.gate_layer"],
        # Layers that both have: which is meant, the engine finds by their widths.
        "both": ["attn.to_q"],
    }
    for name, layers in shelf.items():
        lora_for(tmp_path / f"{name}.safetensors", *layers)
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 9)
    rules = "New one=new, *"

    def names(model: ModelSpec, **changes) -> list[str]:
        return [c.name for c in folder(tmp_path, rules, model=model, **changes).look().choices]

    assert names(QWEN, several=True) == ["both", "broken", "old"]
    assert names(NEWEST, several=True) == ["New one", "both", "broken"]
    # Of one model all are offered, and the doctor says what is wrong with them.
    assert names(QWEN) == ["New one", "both", "broken", "old"]
    found = folder(tmp_path, rules, model=QWEN, several=True).look()
    for text in ("NEW ONE", "new", "new.safetensors"):
        with pytest.raises(
            InvalidRequest, match="`New one` is made for another model, not for Qwe"
        ):
            found.find(text)
    with pytest.raises(InvalidRequest, match="`new` is made for another model"):
        found.require(ImageRequest("x", loras=("new:1",)))
    lora_for(tmp_path / "new.safetensors", "img_mlp.net.2")
    assert names(QWEN, several=True) == ["New one", "both", "broken", "old"]


async def test_new_files_are_seen_and_a_slow_disk_keeps_nobody_waiting(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr("bot.catalogue.loras._PATIENCE_S", 30)
    now = [0.0]
    held, go_on = threading.Event(), threading.Event()
    found = LoraCache(folder(tmp_path, "gone, *", "ink"), clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        await found.start()
    assert "IMAGE_LORAS names gone.safetensors, which is not there" in caplog.text
    (tmp_path / "new.safetensors").touch()
    assert len((await found.known()).choices) == 1
    now[0] = 6.0
    assert [choice.name for choice in (await found.known()).choices] == ["ink", "new"]

    class Slow:
        def look(self) -> Loras:
            held.set()
            go_on.wait()
            return LORAS

    monkeypatch.setattr("bot.catalogue.loras._PATIENCE_S", 0.01)
    found.folder, now[0] = Slow(), 12.0
    async with asyncio.timeout(10):
        assert len((await found.known()).choices) == 2
        assert await asyncio.to_thread(held.wait, 10)
        go_on.set()
        await found._looking
    assert await found.known() is LORAS


def test_what_lightning_drew_is_finished_without_it():
    fast = Lightning(EIGHT, steps=8, shift=3.0)
    draft = composed(
        Loras((PIXEL,), lightning=fast), quality="fast", lora="pixel art", seed=5, count=4
    )
    assert (draft.steps, draft.guidance, draft.shift) == (8, 1.0, 3.0)
    job = Job("0" * 18, 1, None, None, Target.CLI, draft, JobState.GENERATED, 0.0)
    picture = ImageRecord(job.id, 2, "f", "0", 1, draft.width, draft.height, 7)
    done = finished(job, picture, QWEN, None, "fast", "high")
    high = QWEN.qualities["high"]
    assert (done.seed, done.count, done.quality) == (7, 1, "high")
    assert (done.steps, done.guidance, done.shift) == (high.steps, high.guidance, None)
    assert done.loras == ("pixel-v2:0.8",)
    assert done.prompt == draft.prompt
    again = replace(job, request=done)
    with pytest.raises(InvalidRequest, match="all its steps already"):
        finished(again, picture, QWEN)
