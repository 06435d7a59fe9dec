from __future__ import annotations

import json
import os
import queue
import re
import shutil
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import quick_imports
from bot.engine.stream.storage import Storage

with quick_imports():
    import torch


from bot.engine.files import lock
from bot.engine.stream.cache import measure
from bot.engine.stream.cachefile import parts
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Geometry, block_layout, modulation_layout
from bot.engine.stream.loading import load_text_encoder
from bot.engine.stream.parts import key_of, transformer_geometry
from bot.engine.stream.pinned import fills_pages
from bot.engine.stream.published import Sources
from bot.engine.stream.streamer import Streamer
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


def test_the_cache_is_written_once_and_then_used(model, caplog) -> None:
    caplog.set_level("INFO")
    first = opened(model)
    assert not first.cached
    built = loaded(first)
    said = f"once for this IMAGE_PRECISION; later starts read it from {model / 'fp8-cache'}."
    assert re.search(rf"The transformer was converted in \d+ s, {said}", caplog.text)
    caplog.clear()
    assert files_in(model) == ["transformer.json", "transformer.weights"]
    assert first.stats.source == "files"
    written = [path.stat() for path in (model / "fp8-cache").iterdir()]

    second = opened(model)
    assert second.cached
    again = loaded(second)
    assert same(built, again)
    assert second.stats.source == "cache"
    assert (second.stats.packed, second.stats.written_s) == (0, 0)
    assert second.sources.read == set()
    assert second.stats.bytes == second.size == first.size
    after = [path.stat() for path in (model / "fp8-cache").iterdir()]
    assert [(s.st_ino, s.st_mtime_ns) for s in after] == [
        (s.st_ino, s.st_mtime_ns) for s in written
    ]
    assert "converted" not in caplog.text
    assert measure(second, CPU).items == len(built)


def test_the_cache_is_plain_bytes_where_its_index_says(model) -> None:
    built = loaded(opened(model))
    data = (model / "fp8-cache" / "transformer.weights").read_bytes()
    items = json.loads((model / "fp8-cache" / "transformer.json").read_text())["items"]
    assert set(items) == set(built)
    for key, item in items.items():
        crc = 0
        for name, tensor in item["tensors"].items():
            want = built[key].flat if name == "flat" else built[key].small[name[len("small.") :]]
            raw = want.reshape(-1).view(torch.uint8).numpy().tobytes()
            assert data[tensor["offset"] :][: len(raw)] == raw
            crc = zlib.crc32(raw, crc)
        assert item["crc32"] == f"{crc:08x}"


def test_what_is_read_may_stay_and_be_pinned_where_it_is(model) -> None:
    loaded(opened(model))
    for key, packed in loaded(opened(model)).items():
        if key != "outer":
            assert fills_pages(packed.flat)
            streamer = Streamer(Device())
            streamer.add(key, packed.flat, resident=False)
            assert streamer._homes[key].host.tensor.data_ptr() == packed.flat.data_ptr()


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
    assert sources.read == set()


def test_progress_only_grows_within_a_stage_and_ends_at_one(model) -> None:
    for stage in ("converting the transformer", "loading the transformer"):
        seen: list[tuple[str, float | None]] = []
        loaded(opened(model), lambda *event, seen=seen: seen.append(event))
        shares = [share for name, share in seen if name == stage]
        assert len(shares) == 9
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
        assert {name for name, _ in seen} <= {stage, "writing the weights cache"}


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


def test_of_other_files_or_another_layout_nothing_is_used(model) -> None:
    first = opened(model)
    want = loaded(first)
    shard = first.sources.files[1]
    status = shard.stat()
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    touched = opened(model)
    assert not touched.cached
    assert not opened(model, storage=Storage.PLAIN).cached
    assert same(loaded(touched), want)
    assert touched.stats.packed == len(want)
    assert opened(model).cached
    # Begun anew, and not written behind what would never be read again.
    size = (model / "fp8-cache" / "transformer.weights").stat().st_size
    assert size == sum(t.nbytes for packed in want.values() for t in parts(packed).values())


@pytest.mark.slow
def test_a_cache_of_other_content_under_the_right_name_is_made_anew(model, tmp_path) -> None:
    want = loaded(opened(model))
    other = Path(shutil.copytree(model, tmp_path / "other"))
    shutil.rmtree(other / "fp8-cache")
    loaded(opened(other, storage=Storage.PLAIN))
    for path in (other / "fp8-cache").glob("transformer.*"):
        shutil.copy(path, model / "fp8-cache" / path.name)
    again = opened(model)
    assert same(loaded(again), want)
    assert again.stats.source == "files"
    assert opened(model).cached


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
