from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch


from bot.engine.stream import cache, cachefile
from bot.engine.stream.cache import Checkpoint
from bot.engine.stream.items import Item, Plain
from bot.engine.stream.published import Sources
from bot.errors import EngineError, EngineErrorKind
from tests.stream.cachekit import CPU, ROOT, files_in, loaded, opened, same


def flip(path, offset):
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    os.truncate(path, 0)


def junk(path):
    path.write_bytes(b"nothing that anybody wrote" * 10)


def weights(root):
    return root / "fp8-cache" / "transformer.weights"


def index(root):
    return root / "fp8-cache" / "transformer.json"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "damage", "packed"),
    [
        (index, lambda p: flip(p, 0), 9),
        (index, cut, 9),
        (index, empty, 9),
        (index, os.unlink, 9),
        (weights, lambda p: flip(p, p.stat().st_size - 1), 1),
        (weights, cut, 1),
        (weights, empty, 9),
        (weights, junk, 9),
        (weights, os.unlink, 9),
    ],
)
def test_what_is_damaged_of_a_cache_is_made_anew_in_the_same_pass(
    model, file, damage, packed, caplog
) -> None:
    want = loaded(opened(model))
    damage(file(model))
    broken = opened(model)
    with caplog.at_level(logging.WARNING):
        got = loaded(broken)
    assert same(got, want)
    assert (broken.stats.source, broken.stats.packed) == ("files", packed)
    mended = opened(model)
    assert mended.cached
    assert same(loaded(mended), want)
    assert mended.stats.source == "cache"


@pytest.mark.slow
def test_each_item_is_handed_out_once_though_damage_is_found_halfway(model, caplog) -> None:
    want = loaded(opened(model))
    place = json.loads(index(model).read_text())["items"]["block.2"]["tensors"]["flat"]["offset"]
    flip(weights(model), place + 5)
    unchecked = opened(model, verify=False)
    assert not same(loaded(unchecked), want)
    assert unchecked.stats.source == "cache"
    seen: list[tuple[str, float | None]] = []
    checkpoint = opened(model)
    with caplog.at_level(logging.WARNING):
        keys = [key for key, _ in checkpoint.load(CPU, lambda *event: seen.append(event))]
    assert keys == list(want)
    assert "is damaged and made anew: block.2, its checksum is wrong" in caplog.text
    assert [name for name, _ in seen].count("loading the transformer") == len(keys) - 1
    assert checkpoint.stats.packed == 1
    assert same(loaded(opened(model)), want)


# Published files


@pytest.mark.parametrize("indexed", [True, False])
def test_a_missing_shard_is_named(model, indexed) -> None:
    files = sorted((model / "transformer").glob("*.safetensors"))
    files[1].unlink()
    if not indexed:
        (model / "transformer" / "diffusion_pytorch_model.safetensors.index.json").unlink()
    with pytest.raises(EngineError) as caught:
        Sources(files)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    assert caught.value.sentence == f"The model file transformer/{files[1].name} is missing."
    assert str(files[1]) in caught.value.detail


@pytest.mark.parametrize("damage", [cut, empty, junk])
def test_a_damaged_shard_is_named(model, damage) -> None:
    files = sorted((model / "transformer").glob("*.safetensors"))
    damage(files[2])
    with pytest.raises(EngineError) as caught:
        opened(model)
    assert caught.value.kind is EngineErrorKind.LOAD_FAILED
    assert f"transformer/{files[2].name}" in caught.value.sentence
    assert "damaged" in caught.value.sentence


def test_a_weight_that_no_file_has_is_named_with_the_file_that_should_have_it(model) -> None:
    index = model / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    homes = json.loads(index.read_text())
    homes["weight_map"]["extra.weight"] = "diffusion_pytorch_model-00002-of-00003.safetensors"
    index.write_text(json.dumps(homes))
    sources = Sources(sorted((model / "transformer").glob("*.safetensors")))
    with pytest.raises(EngineError) as caught:
        Checkpoint("x", sources, [Item("a", {"b": "extra.weight"}, Plain(torch.float32))])
    assert "00002-of-00003.safetensors lacks the weight extra.weight" in caught.value.sentence


# The disk


def test_a_full_disk_is_said_in_one_sentence_and_the_model_is_loaded_all_the_same(
    model, monkeypatch, caplog
) -> None:
    want = loaded(opened(model, folder=False))
    usage = shutil.disk_usage(model)
    monkeypatch.setattr(cache, "_SPARE_BYTES", usage.total + 1)  # more than this disk can have
    checkpoint = opened(model)
    with caplog.at_level(logging.WARNING):
        assert same(loaded(checkpoint), want)
    assert (
        "The weights cache of the transformer needs 0.0 GB on the disk of"
        in checkpoint.stats.notice
    )
    assert "without it every start takes longer" in caplog.text
    assert files_in(model) == []


@pytest.mark.skipif(sys.platform != "linux", reason="uses /dev/full and a file size limit")
@pytest.mark.slow
def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(model) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from tests.stream.test_cache import opened, loaded, same
root = Path(sys.argv[1])
want = loaded(opened(root, folder=False))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
checkpoint = opened(root)
assert same(loaded(checkpoint), want)
print(checkpoint.stats.notice)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, model], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "could not be written" in done.stdout
    assert files_in(model) == []


def test_a_folder_that_cannot_be_written_is_done_without(model) -> None:
    (model / "fp8-cache").write_text("a file is in the way")
    checkpoint = opened(model)
    assert loaded(checkpoint)
    assert "could not be written" in checkpoint.stats.notice


def failing(of):
    """Make a method of `Path` fail at the weights cache's files as a broken disk does."""
    real = getattr(Path, of)

    def fails(path, *given, **named):
        if path.parent.name == "fp8-cache" and path.suffix in {".json", ".weights"}:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *given, **named)

    return fails


@pytest.mark.slow
@pytest.mark.parametrize("of", ["read_text", "stat"])
def test_a_cache_at_which_the_disk_fails_is_not_taken_for_none(model, monkeypatch, of) -> None:
    want, there = loaded(opened(model)), files_in(model)
    with_files, path = opened(model), index(model)
    with monkeypatch.context() as patch:
        patch.setattr(Path, of, failing(of))
        assert not with_files.cached
        assert same(loaded(with_files), want)
        assert "could not be read (Input/output error)" in with_files.stats.notice
    assert files_in(model) == there
    shutil.rmtree(model / "transformer")
    without = opened(model)
    with monkeypatch.context() as patch:
        patch.setattr(Path, of, failing(of))
        with pytest.raises(EngineError) as caught:
            loaded(without)
    assert str(path) in caught.value.detail
    assert (
        caught.value.sentence
        == "The model file fp8-cache/transformer.json cannot be read: Input/output error."
    )
    assert files_in(model) == there
    assert same(loaded(opened(model)), want)


@pytest.mark.slow
def test_a_reader_that_stops_is_gone_on_from(model, caplog) -> None:
    reader = opened(model).load(CPU, lambda *_: None)
    first = [next(reader) for _ in range(3)]
    reader.close()
    after = opened(model)
    assert not after.cached
    with caplog.at_level(logging.INFO):
        got = loaded(after)
    assert "The weights cache of the transformer has 3 of 9 parts" in caplog.text
    assert (after.stats.packed, after.stats.source) == (6, "files")
    assert same(dict(first), {key: got[key] for key, _ in first})
    assert same(got, loaded(opened(model, folder=False)))
    assert opened(model).cached


@pytest.mark.slow
def test_a_kill_while_writing_costs_what_was_not_on_the_disk_yet(model) -> None:
    script = """
import sys
from pathlib import Path
from bot.engine.stream import cachefile
from tests.stream.test_cache import CPU, opened
cachefile._SAVE_BYTES = 1
for key, _ in opened(Path(sys.argv[1])).load(CPU, lambda *_: None):
    if key == "block.1":
        cachefile._SAVE_BYTES = 2**40
    if key == "block.2":
        print("here", flush=True)
        sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, model],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout.readline() == "here\n"
        child.kill()
        child.wait()
        child.stdin.close()
    if os.name == "posix":
        assert child.returncode == -signal.SIGKILL
    after = opened(model)
    assert not after.cached
    want = loaded(opened(model, folder=False))
    assert same(loaded(after), want)
    # outer, block.0, modulation.0, block.1; modulation.1 and block.2 were not said to be there.
    assert after.stats.packed == 5
    size = sum(t.nbytes for packed in want.values() for t in cachefile.parts(packed).values())
    assert weights(model).stat().st_size == size
    assert same(loaded(opened(model)), want)
