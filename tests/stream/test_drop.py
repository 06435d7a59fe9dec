"""Files that are converted and deleted one by one: what of the disk and of memory that takes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    import torch
    from safetensors.torch import save_file

from bot.cli.download import download_model, download_models
from bot.config.settings import load_settings
from bot.engine.files import find
from bot.engine.files.cache_index import CacheIndex
from bot.engine.stream import cachefile, drop
from bot.engine.stream.any_dit import AnyDiT
from bot.engine.stream.device import Device
from bot.engine.stream.layout import Precision
from bot.engine.stream.loading import load_text_encoder, load_transformer
from bot.engine.stream.published import Sources
from bot.engine.stream.settings import TransformerSettings
from bot.errors import BotError, EngineError
from tests.engine.hub import REPOSITORY, Hub
from tests.stream.cachekit import ROOT
from tests.stream.files import published_text

pytestmark = pytest.mark.slow
QUIET = lambda *_: None  # noqa: E731
STEMS = {"transformer": "diffusion_pytorch_model", "text_encoder": "model"}


def in_order(state: dict[str, torch.Tensor], folder: Path, stem: str, count: int) -> None:
    """Write shards as they are published: cut where one is full, so blocks lie in two of them."""
    folder.mkdir(parents=True)
    whole = sum(tensor.nbytes for tensor in state.values())
    shards: list[dict[str, torch.Tensor]] = [{} for _ in range(count)]
    end = 0
    for name, tensor in state.items():
        shards[min(count - 1, end * count // whole)][name] = tensor.contiguous()
        end += tensor.nbytes
    homes: dict[str, str] = {}
    for i, shard in enumerate(shards, 1):
        file = f"{stem}-{i:05}-of-{count:05}.safetensors"
        save_file(shard, folder / file)
        homes.update(dict.fromkeys(shard, file))
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))


@pytest.fixture(scope="module")
def files(pipe, tmp_path_factory) -> dict[str, bytes]:
    root = tmp_path_factory.mktemp("hub")
    state = {name: value.bfloat16() for name, value in pipe.dit.state_dict().items()}
    in_order(state, root / "transformer", STEMS["transformer"], 6)
    in_order(published_text(pipe.text_encoder), root / "text_encoder", STEMS["text_encoder"], 4)
    (root / "vae").mkdir()
    save_file({"w": torch.ones(8)}, root / "vae" / "diffusion_pytorch_model.safetensors")
    (root / "tokenizer").mkdir()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (root / "tokenizer" / name).write_bytes(b"{}")
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def hub(files, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "")
    with Hub(dict(files)) as running:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr("huggingface_hub.hf_api.ENDPOINT", running.url, raising=False)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


def used(root: Path) -> int:
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


class Peak:
    """The most that the folder ever held, looked at before each change that makes it less."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        for owner, name in (
            (Path, "unlink"),
            (Path, "replace"),
            (os, "fsync"),
            (cachefile.WeightsCache, "write"),
        ):
            real = getattr(owner, name)

            def looked(*given, _real=real, **named):
                self.bytes = max(self.bytes, used(root))
                done = _real(*given, **named)
                self.bytes = max(self.bytes, used(root))
                return done

            monkeypatch.setattr(owner, name, looked)


def dropped(root: Path, progress=QUIET, precision: str = "fp8"):
    return drop.download_and_drop(
        root, progress, repository=REPOSITORY, source="huggingface", precision=precision
    )


def networks(pipe, home: Path, cache: Path, precision: Precision = Precision.FP8):
    """Load both, and say what they say."""

    def sources(folder, part):
        return Sources(sorted((home / folder).glob("*.safetensors")), CacheIndex.load(cache, part))

    settings = TransformerSettings(dtype=torch.bfloat16, precision=precision)
    dit, one = load_transformer(sources("transformer", "transformer"), settings, cache, QUIET)
    encoder, two = load_text_encoder(
        sources("text_encoder", "text encoder"), pipe.text_encoder.config.text_config,
        Device(), torch.bfloat16, cache, QUIET, storage=precision.storage,
    )  # fmt: skip
    prompts = [torch.randn(n, 64, generator=torch.Generator().manual_seed(n)) for n in (9, 5)]
    ready = dit.prepare(prompts, torch.tensor([1000.0, 500.0]), width=64, height=96)
    latents = torch.randn(1, 16, 12, 8, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.no_grad():
        said = dit.predict(ready, 1, latents, 4.0), encoder.encode([torch.arange(40)])[0]
    return said, (one, two)


@pytest.mark.parametrize(
    "precision", [Precision.FP8, pytest.param(Precision.INT8, marks=pytest.mark.slow)]
)
def test_dropping_needs_a_fraction_of_the_disk_and_loads_the_same(
    pipe, files, hub, tmp_path, monkeypatch, precision
) -> None:
    folder = find.CACHE_FOLDERS[precision]
    plain, small = tmp_path / "plain", tmp_path / "small"
    weights = sum(len(data) for name, data in files.items() if name.split("/")[0] in STEMS)
    with monkeypatch.context() as patch:
        peak = Peak(plain, patch)
        found = find.ensure(plain, QUIET, repository=REPOSITORY)
        want, _ = networks(pipe, found.folder, found.folder / folder, precision)
    kept = peak.bytes
    cache = used(plain / REPOSITORY / folder)
    assert kept >= weights + cache

    with monkeypatch.context() as patch:
        peak = Peak(small, patch)
        shares: list[float] = []
        left = dropped(small, lambda _, share: shares.append(share or 0.0), precision)
    assert [path.name for path in left.weights] == ["diffusion_pytorch_model.safetensors"]
    largest = max(len(data) for data in files.values())
    rest = sum(len(data) for name, data in files.items() if name.split("/")[0] not in STEMS)
    # A file, what the one before had of a block, and the cache; the index is text beside it.
    assert peak.bytes < cache + rest + 2.5 * largest
    assert peak.bytes < 0.65 * kept
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    got, stats = networks(pipe, small / REPOSITORY, small / REPOSITORY / folder, precision)
    assert [each.source for each in stats] == ["cache", "cache"]
    assert all(torch.equal(one, two) for one, two in zip(got, want, strict=True))
    hub.asked.clear()
    dropped(small, precision=precision)
    assert find.find(small, REPOSITORY)[0] is None  # bfloat16 needs the files
    assert hub.asked == []


def test_each_offered_model_is_packed_and_dropped(pipe, hub, tmp_path, capsys) -> None:
    newer = "Qwen/Qwen-Image-2512"
    settings = load_settings(
        image_model_path=tmp_path, image_models=newer, image_precision="fp8", _env_file=None
    )
    assert download_models(settings, settings.models, drop=True)
    for name in (REPOSITORY, newer):
        left = [path.name for path in (tmp_path / name).rglob("*.safetensors")]
        assert left == ["diffusion_pytorch_model.safetensors"]
        _, stats = networks(pipe, tmp_path / name, tmp_path / name / "fp8-cache")
        assert [each.source for each in stats] == ["cache", "cache"]
    assert "in the weights cache beside them" in capsys.readouterr().out


@pytest.mark.parametrize("after", ["transformer", "text_encoder"])
def test_an_interrupted_one_goes_on_where_it_was(
    pipe, files, hub, tmp_path, monkeypatch, after
) -> None:
    shards = [name for name in files if name.startswith(after) and name.endswith(".safetensors")]
    hub.cuts[shards[2]] = [100, *[0] * 50]
    monkeypatch.setattr("bot.engine.files.fetch._PAUSE_S", 0.0)
    with pytest.raises(BotError):
        settings = load_settings(image_model_path=tmp_path, image_precision="fp8")
        download_model(settings, settings.model, drop=True)
    home = tmp_path / REPOSITORY
    if after == "transformer":  # Of the other, nothing shows yet how wide a layer is.
        assert not list((home / after).glob("*.safetensors"))
    hub.cuts.clear()
    hub.asked.clear()
    # The engine's own download goes on, too: it needs only the rest.
    if after == "transformer":
        find.ensure(tmp_path, QUIET, repository=REPOSITORY, precision="fp8")
    else:
        dropped(tmp_path)
    fetched = {name for method, name, _ in hub.asked if method == "GET"}
    assert fetched.isdisjoint(shards[:2])
    assert fetched >= set(shards[2:])
    got, _ = networks(pipe, home, home / "fp8-cache")
    find.ensure(tmp_path / "plain", QUIET, repository=REPOSITORY)
    want, _ = networks(pipe, tmp_path / "plain" / REPOSITORY, tmp_path / "plain" / "cache")
    assert all(torch.equal(one, two) for one, two in zip(got, want, strict=True))


def test_files_that_are_there_are_dropped_without_a_hub(pipe, files, tmp_path) -> None:
    home = tmp_path / REPOSITORY
    for name, data in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    for index in home.rglob("*.index.json"):
        index.unlink()  # Which file has what shows only when all are there.
    want, _ = networks(pipe, home, tmp_path / "other")
    seen = []
    dropped(tmp_path, lambda stage, share: seen.append((stage, share)))
    assert seen[-1] == ("downloading and converting the model", 1.0)
    assert not [path for folder in STEMS for path in (home / folder).glob("*.safetensors")]
    got, _ = networks(pipe, home, home / "fp8-cache")
    assert all(torch.equal(one, two) for one, two in zip(got, want, strict=True))


def test_the_vision_tower_and_the_head_are_kept_as_they_were_published(
    pipe, files, hub, tmp_path
) -> None:
    dropped(tmp_path)
    cache = cachefile.WeightsCache(tmp_path / REPOSITORY / "fp8-cache", "text encoder")
    found = {}
    for key in cache.index.items:
        if key.startswith("vision"):
            found |= {f"visual.{n}": tensor for n, tensor in cache.read(key).small.items()}
        elif key == "head":
            found["lm_head.weight"] = cache.read(key).small["weight"]
    published = published_text(pipe.text_encoder)
    want = {n for n in published if n.startswith("visual.") or n == "lm_head.weight"}
    assert set(found) == want
    assert all(torch.equal(found[name], published[name]) for name in want)


def test_a_damaged_cache_without_its_files_says_so_and_they_are_wanted_again(
    pipe, hub, tmp_path
) -> None:
    dropped(tmp_path)
    home = tmp_path / REPOSITORY
    path = home / "fp8-cache" / "transformer.weights"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size - 1)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(EngineError) as caught:
        networks(pipe, home, home / "fp8-cache")
    assert "are gone: they are downloaded again" in caught.value.sentence
    _, missing = find.find(tmp_path, REPOSITORY, "fp8")
    assert [path.parent.name for path in missing] == ["transformer"]
    dropped(tmp_path)
    assert networks(pipe, home, home / "fp8-cache")


def test_a_disk_that_fails_for_once_costs_no_cache(pipe, hub, tmp_path, monkeypatch) -> None:
    dropped(tmp_path)
    home = tmp_path / REPOSITORY

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(cachefile, "read_tensor", failing)
        with pytest.raises(EngineError) as caught:
            networks(pipe, home, home / "fp8-cache")
    assert "fp8-cache/transformer.weights is damaged" in caught.value.sentence
    _, stats = networks(pipe, home, home / "fp8-cache")
    assert [each.source for each in stats] == ["cache", "cache"]


def test_a_disk_that_fails_for_once_downloads_nothing_again(pipe, hub, tmp_path, monkeypatch):
    dropped(tmp_path)
    hub.asked.clear()
    real = Path.read_text

    def failing(path: Path, *given: object, **named: object) -> str:
        if path.name == "transformer.json":
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *given, **named)  # pyright: ignore[reportArgumentType]

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", failing)
        with pytest.raises(EngineError) as caught:
            find.ensure(tmp_path, QUIET, repository=REPOSITORY, precision="fp8")
        with pytest.raises(EngineError):
            dropped(tmp_path)
    assert (
        caught.value.sentence
        == "The model file fp8-cache/transformer.json cannot be read: Input/output error."
    )
    assert hub.asked == []
    find.ensure(tmp_path, QUIET, repository=REPOSITORY, precision="fp8")
    assert hub.asked == []


def test_another_revision_is_noticed_beside_the_cache(pipe, hub, tmp_path) -> None:
    dropped(tmp_path)
    home = tmp_path / REPOSITORY
    one = "transformer/diffusion_pytorch_model-00002-of-00006.safetensors"
    (home / one).write_bytes(hub.files[one])  # at another time: it may be another's
    with pytest.raises(EngineError) as caught:
        networks(pipe, home, home / "fp8-cache")
    assert (
        f"The model file {one} is not what the weights cache was made of" in caught.value.sentence
    )
    assert CacheIndex.load(home / "fp8-cache", "transformer").complete  # it is not thrown away
    for name, data in hub.files.items():
        if name.startswith("transformer"):
            (home / name).write_bytes(data)
    _, stats = networks(pipe, home, home / "fp8-cache")
    assert [each.source for each in stats] == ["files", "cache"]


MEMORY = """
import json, resource, sys
from pathlib import Path
import torch
from bot.engine.files.cache_index import CacheIndex
from bot.engine.stream.cache import Checkpoint
from bot.engine.stream.parts import transformer_items
from bot.engine.stream.published import Sources
from bot.engine.stream.storage import Storage
torch.set_num_threads(1)
root, room = Path(sys.argv[1]), int(sys.argv[2])
cache = root / "fp8-cache"
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
def opened():
    sources = Sources(sorted((root / "transformer").glob("*.safetensors")), CacheIndex.load(cache, "transformer"))
    items = transformer_items(sources, torch.bfloat16, storage=Storage.FP8, modulation_storage=Storage.FP8)
    return Checkpoint("transformer", sources, items, cache)
def load(checkpoint):
    for _ in checkpoint.load(torch.device("cpu"), lambda *_: None):
        pass
    return checkpoint.stats
opened()  # what libraries map when they are first used
torch.ones(64, 64).to(torch.float8_e4m3fn).float()
before = status("VmHWM")
limit = status("VmSize") + room
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
stats = load(opened())
print(json.dumps({"source": stats.source, "grown": status("VmHWM") - before}))
"""


@pytest.mark.timeout(300)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits the address space")
def test_neither_converting_nor_loading_needs_memory_as_large_as_a_file(tmp_path) -> None:
    """A mapping of the cache, or of one published file, would not fit into what is allowed here."""
    from bot.engine.stream.layout import Geometry

    torch.manual_seed(1)
    dit = AnyDiT(Geometry(24, 512, 4), 64)
    state = {name: torch.randn(value.shape).bfloat16() for name, value in dit.state_dict().items()}
    whole = sum(tensor.nbytes for tensor in state.values())
    in_order(state, tmp_path / "transformer", STEMS["transformer"], 1)
    room = 128 * 2**20
    assert whole > 3 * room
    grown = []
    for source in ("files", "cache", "cache"):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, tmp_path, str(room)],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={**os.environ, "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        said = json.loads(done.stdout)
        assert said["source"] == source
        grown.append(said["grown"])
        if source == "cache":
            shutil.rmtree(tmp_path / "transformer", ignore_errors=True)
    assert (tmp_path / "fp8-cache" / "transformer.weights").stat().st_size > 1.5 * room
    assert max(grown) < room
