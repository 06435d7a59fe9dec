from __future__ import annotations

import json
import os
import queue
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch


from safetensors import safe_open
from safetensors.torch import load_file

from bot.engine.files import lock
from bot.engine.stream.cache import measure
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry, block_layout, modulation_layout
from bot.engine.stream.loading import load_text_encoder
from bot.engine.stream.parts import key_of, transformer_geometry
from bot.engine.stream.published import Sources
from tests.stream.cachekit import CPU, files_in, loaded, opened, same


def test_the_published_files_become_the_packed_blocks_of_the_layout(pipe, published) -> None:
    checkpoint = opened(published, folder=False)
    geometry = transformer_geometry(checkpoint.sources)
    assert geometry == Geometry.of(pipe.dit)
    got = loaded(checkpoint)
    kinds = [(block_layout, "block"), (modulation_layout, "modulation")]
    for i, block in enumerate(pipe.dit.transformer_blocks):
        state = {name: value.bfloat16() for name, value in block.state_dict().items()}
        for layout, kind in kinds:
            want = layout(geometry, torch.bfloat16, Storage.FP8).pack(state, CPU)
            assert same({"": got.pop(f"{kind}.{i}")}, {"": want})
    rest = got.pop("outer").small
    assert not got
    whole = pipe.dit.state_dict()
    assert set(rest) == {name for name in whole if not name.startswith("transformer_blocks.")}
    assert all(torch.equal(value, whole[name].bfloat16()) for name, value in rest.items())
    assert checkpoint.sources.read == set(whole)
    assert checkpoint.stats.source == "files"
    assert key_of("block.12") == ("block", 12)
    assert key_of("outer") == ("outer", -1)


def test_the_cache_is_written_once_and_then_used(model) -> None:
    first = opened(model)
    assert not first.cached
    built = loaded(first)
    (name,) = files_in(model)
    assert name == first.path.name
    assert first.stats.source == "files"
    written = first.path.stat()

    second = opened(model)
    assert second.cached
    again = loaded(second)
    assert same(built, again)
    assert second.stats.source == "cache"
    assert second.sources.read == set()
    assert second.stats.bytes == second.size == first.size
    after = second.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert measure(second, CPU).items == len(built)


def test_the_cache_is_an_ordinary_safetensors_file(model) -> None:
    checkpoint = opened(model)
    built = loaded(checkpoint)
    tensors = load_file(checkpoint.path)
    assert torch.equal(tensors["block.2/flat"], built["block.2"].flat)
    for name, value in built["modulation.1"].small.items():
        assert torch.equal(tensors[f"modulation.1/small.{name}"], value)
    with safe_open(checkpoint.path, framework="pt") as file:
        assert set(json.loads(file.metadata()["crc32"])) == set(built)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_blocks_are_views_of_the_mapped_file_and_small_tensors_are_not(model) -> None:
    loaded(opened(model))
    checkpoint = opened(model)
    for _, packed in checkpoint.load(CPU, lambda *_: None):
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        spans = [line[0].split("-") for line in maps if line[-1] == str(checkpoint.path)]
        inside = [range(int(start, 16), int(end, 16)) for start, end in spans]
        if packed.flat.numel():
            assert any(packed.flat.data_ptr() in span for span in inside)
        for tensor in packed.small.values():
            assert not any(tensor.data_ptr() in span for span in inside)


def test_without_a_folder_or_in_plain_precision_nothing_is_written(model) -> None:
    plain = loaded(opened(model, folder=False, storage=Storage.PLAIN))
    assert (
        plain["block.0"].flat.numel()
        == 2 * loaded(opened(model, folder=False))["block.0"].flat.numel()
    )
    assert files_in(model) == []


def test_the_text_encoder_from_the_cache_is_the_one_from_the_files(pipe, model) -> None:
    config = pipe.text_encoder.config.text_config
    states = []
    for _ in range(2):
        sources = Sources(sorted((model / "text_encoder").glob("*.safetensors")))
        encoder, stats = load_text_encoder(
            sources, config, Device(), torch.float32, model / "fp8-cache", lambda *_: None
        )
        states.append((stats.source, encoder.encode([torch.arange(40)])[0]))
    (first, one), (second, two) = states
    assert (first, second) == ("files", "cache")
    assert torch.equal(one, two)
    # The table is looked up in the published file, not copied.
    assert sources.read == {"model.embed_tokens.weight"}


def test_progress_only_grows_within_a_stage_and_ends_at_one(model) -> None:
    for stage in ("converting the transformer", "loading the transformer"):
        seen: list[tuple[str, float | None]] = []
        loaded(opened(model), lambda *event, seen=seen: seen.append(event))
        shares = [share for name, share in seen if name == stage]
        assert len(shares) == 9
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert {name for name, _ in seen} <= {stage, "writing the FP8 cache"}


def test_no_more_than_one_block_is_alive_beside_what_the_reader_keeps(model, monkeypatch) -> None:
    import weakref

    alive: list[weakref.ref] = []
    peak = []
    pack = type(block_layout(Geometry(1, 128, 2), torch.bfloat16, Storage.FP8)).pack

    def counting(self, state, device):
        peak.append(sum(ref() is not None for ref in alive))
        packed = pack(self, state, device)
        if device.type != "meta":
            alive.append(weakref.ref(packed.flat))
        return packed

    monkeypatch.setattr("bot.engine.stream.layout.Layout.pack", counting)
    checkpoint = opened(model)
    for _ in checkpoint.load(CPU, lambda *_: None):
        del _
    assert len(alive) == 8
    assert max(peak) == 0


# What makes another cache


def test_other_files_or_another_layout_get_a_cache_of_their_own(model) -> None:
    first = opened(model)
    loaded(first)
    shard = first.sources.files[1]
    status = shard.stat()
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = opened(model)
    assert touched.path != first.path
    assert not touched.cached
    assert opened(model, storage=Storage.PLAIN).path != touched.path
    loaded(touched)
    assert files_in(model) == [touched.path.name]  # the old one would never be read again


@pytest.mark.slow
def test_a_cache_of_other_content_under_the_right_name_is_made_anew(model, tmp_path) -> None:
    checkpoint = opened(model)
    want = loaded(checkpoint)
    other = Path(shutil.copytree(model, tmp_path / "other"))
    shutil.rmtree(other / "fp8-cache")
    foreign = opened(other, storage=Storage.PLAIN)
    loaded(foreign)
    shutil.copy(foreign.path, checkpoint.path)
    again = opened(model)
    assert same(loaded(again), want)
    assert again.stats.source == "files"


# Damage


def test_of_two_engines_one_writes_the_cache_and_the_other_reads_it(model, monkeypatch) -> None:
    monkeypatch.setattr(lock, "_TELL_S", 0.01)
    first, second = opened(model), opened(model)
    drawing = first.load(CPU, lambda *_: None)
    next(drawing)  # It converts, and holds the turn.
    told = queue.SimpleQueue()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(loaded, second, lambda stage, _share: told.put(stage))
        assert told.get(timeout=30) == "another engine prepares the model's files"
        assert list(drawing)
        assert other.result(timeout=30)
    assert (first.stats.source, second.stats.source) == ("files", "cache")
