"""Getting the model's files from a hub over real sockets, by the real client, as a user does it."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bot.cli.download import download_model, download_models
from bot.config.settings import load_settings
from bot.engine.files import download
from bot.errors import EngineError
from tests.engine.hub import Hub, sha256
from tests.engine.test_weights import FILES

ROOT = Path(__file__).parents[2]
LARGE = FILES[3]
pytestmark = pytest.mark.timeout(120)


def network(megabytes: int, fill: int) -> bytes:
    size = megabytes * 2**20
    entry = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    header = json.dumps({"w": entry}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([fill]) * size


CANARY = "hf_canary_0123456789"


@pytest.fixture
def hub():
    files = {name: network(0, 0) for name in FILES}
    files[LARGE] = network(32, 7)
    files |= {"README.md": b"not wanted", "transformer/config.json": b"{}"}
    with Hub(files) as running:
        yield running


def run(
    hub: Hub, folder: Path, *options: str, command: str = "download", **changes: str
) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "IMAGE_MODEL_PATH": str(folder / "model"),
        "IMAGE_LORA_PATH": str(folder / "loras"),
        **changes,
    }
    # The files have no tensors that could be converted.
    if command == "download" and not {"--lightning", "--drop"} & set(options):
        options = ("--keep", *options)
    return subprocess.run(
        [sys.executable, "-m", "bot", command, *options],
        cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_all_that_is_wanted_arrives_and_a_second_time_asks_for_nothing(hub, tmp_path):
    (tmp_path / ".env").write_text(f"HF_TOKEN={CANARY}\n")
    done = run(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Complete: 14 files of weights" in done.stdout
    assert done.stdout.startswith("Qwen/Qwen-Image: 57.7 GB in all, to /")
    assert "\nIts licence: Apache-2.0\n" in done.stdout
    assert "downloading the model: 0% of 57.7 GB" in done.stdout
    for name, data in hub.files.items():
        path = tmp_path / "model" / "Qwen/Qwen-Image" / name
        assert path.exists() == (name != "README.md")
        assert not path.exists() or sha256(path.read_bytes()) == sha256(data)
    assert hub.tokens == {f"Bearer {CANARY}"}
    assert "canary" not in done.stdout + done.stderr
    hub.asked.clear()
    again = run(hub, tmp_path)
    assert again.returncode == 0
    assert not hub.asked


@pytest.mark.slow
def test_a_cut_connection_goes_on_where_it_ended(hub, tmp_path):
    hub.cuts[LARGE] = [26 * 2**20]
    done = run(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = hub.bytes_sent_of(LARGE)
    assert first in {None, "bytes=0-"}
    start = int(second.removeprefix("bytes=").rstrip("-"))
    assert 0 < start <= 26 * 2**20
    assert (tmp_path / "model" / "Qwen/Qwen-Image" / LARGE).read_bytes() == hub.files[LARGE]


@pytest.mark.slow
def test_a_wrong_hash_is_told_and_the_file_fetched_again_next_time(hub, tmp_path):
    hub.hashes[LARGE] = "0" * 64
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"The file {LARGE} was damaged on its way; it is downloaded again next time."
    )
    assert not (tmp_path / "model" / "Qwen/Qwen-Image" / LARGE).exists()
    hub.hashes.clear()
    assert run(hub, tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "wants a login for Qwen/Qwen-Image: put a token of an account that may read it into"),
        (403, "wants a login"),
        (404, "Hugging Face knows no model Qwen/Qwen-Image."),
        (503, "is missing and could not be downloaded from Hugging Face (HTTP 503)"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub, tmp_path, status, said):
    hub.status = status
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_a_missing_network_is_one_sentence(hub, tmp_path):
    done = run(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "could not be downloaded from Hugging Face (no connection)" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    done = run(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert "could not be downloaded from Hugging Face (HF_HUB_OFFLINE is set)" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["IMAGE_MODEL_PATH", "IMAGE_LORA_PATH"])
def test_a_folder_that_cannot_be_written_is_one_sentence(hub, tmp_path, setting):
    (tmp_path / "file").touch()
    options = ("--lightning",) if setting == "IMAGE_LORA_PATH" else ()
    done = run(hub, tmp_path, *options, **{setting: str(tmp_path / "file/below")})
    assert done.returncode == 1
    assert f"The folder of {setting} cannot be written: Not a directory." in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_doctor_finds_what_changed_since_the_download(hub, tmp_path):
    hub.cuts[LARGE] = [26 * 2**20, *[0] * 50]
    assert run(hub, tmp_path).returncode == 1
    found = run(hub, tmp_path, "--only", "model files", command="doctor")
    assert "1 downloads are unfinished" in found.stdout
    hub.cuts.clear()
    assert run(hub, tmp_path).returncode == 0
    check = ("--only", "model hashes")
    found = run(hub, tmp_path, *check, command="doctor")
    assert (found.returncode, "14 of 14 compared and right" in found.stdout) == (0, True)
    folder = tmp_path / "model/Qwen/Qwen-Image"
    with (folder / LARGE).open("rb+") as file:
        file.seek(2**24)
        byte = file.read(1)[0]
        file.seek(2**24)
        file.write(bytes([byte ^ 1]))
    found = run(hub, tmp_path, *check, command="doctor")
    assert found.returncode == 1
    assert f"{LARGE} is not what the hub published" in " ".join(found.stdout.split())
    (folder / "SHA256SUMS").unlink()
    found = run(hub, tmp_path, *check, command="doctor")
    assert (found.returncode, "WARNING" in found.stdout) == (0, True)


def test_a_cache_that_will_not_fit_is_told(tmp_path, monkeypatch):
    files = SimpleNamespace(weights=[], folder=tmp_path)
    monkeypatch.setattr("bot.engine.files.find.ensure", lambda *_, **__: files)
    settings = load_settings(image_model_path=tmp_path)
    for free, told in ((35e9, False), (20e9, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        said = download_model(settings, settings.model)
        assert ("The weights cache needs 35 GB more there, and 20 GB are free" in said) is told


@pytest.mark.slow
def test_a_disk_without_room_is_told_before_the_first_byte(hub, tmp_path):
    hub.sizes[LARGE] = 10**18
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert "The model needs 1000000000.0 GB more on the disk" in done.stderr
    assert not hub.asked


def test_a_disk_that_fills_up_meanwhile_is_told(hub, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        Path("/dev/full").write_bytes(b"x")

    client = download._CLIENTS["huggingface"]
    monkeypatch.setattr(
        client, "listing", lambda _: [download.RemoteFile("vae/a.safetensors", 1, None)]
    )
    monkeypatch.setattr(download, "_fetch", full)
    with pytest.raises(EngineError) as caught:
        download.download(tmp_path, "a/b", "huggingface", lambda *_: None, patterns=["vae/*"])
    assert "is full; the download goes on once it is not" in str(caught.value.sentence)


def test_the_tiny_model_needs_nothing(hub, tmp_path):
    done = run(hub, tmp_path, IMAGE_MODEL_NAME="tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to download" in done.stdout


NEWER, SMALL = "Qwen/Qwen-Image-2512", "Qwen/Qwen-Image-2.1"
BOTH = {"IMAGE_MODELS": f"tiny, {NEWER}"}


@pytest.mark.slow
def test_all_offered_models_arrive_and_the_progress_says_which(hub, tmp_path):
    done = run(hub, tmp_path, **BOTH)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    places = [said.index(f"Model {n} of 2:") for n in (1, 2)]
    assert [said[place + 1].split(":")[0] for place in places] == ["Qwen/Qwen-Image", NEWER]
    for name in ("Qwen/Qwen-Image", NEWER):
        assert f"{name}: downloading the model: 0% of 57.7 GB" in said
        for file in FILES:
            path = tmp_path / "model" / name / file
            assert sha256(path.read_bytes()) == sha256(hub.files[file])
    hub.asked.clear()
    assert run(hub, tmp_path, **BOTH).returncode == 0
    assert not hub.asked


@pytest.mark.slow
def test_a_model_that_fails_hinders_no_other(hub, tmp_path):
    hub.unknown = {"Qwen/Qwen-Image"}
    done = run(hub, tmp_path, **BOTH)
    assert done.returncode == 1
    assert done.stderr == "Qwen/Qwen-Image: Hugging Face knows no model Qwen/Qwen-Image.\n"
    assert done.stdout.splitlines()[-1].startswith("Not complete: Qwen/Qwen-Image. ")
    assert f"in {tmp_path / 'model' / NEWER}" in done.stdout
    # Afterwards the one that is missing is all that is got.
    hub.unknown.clear()
    hub.asked.clear()
    assert run(hub, tmp_path, **BOTH).returncode == 0
    assert len(hub.bytes_sent_of(LARGE)) == 1


@pytest.mark.slow
def test_one_model_is_got_by_its_name(hub, tmp_path):
    done = run(hub, tmp_path, "2512", **BOTH)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "model/Qwen").iterdir()] == ["Qwen-Image-2512"]
    assert "Model 1 of" not in done.stdout
    # One that is not offered yet as well: its files come first, the setting after.
    hub.unknown = {SMALL}
    absent = run(hub, tmp_path, "qwen-image-2.1", **BOTH)
    assert (absent.returncode, f"knows no model {SMALL}" in absent.stderr) == (1, True)


def test_a_disk_that_is_too_small_for_all_is_told_before_the_first_byte(
    hub, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    dropped = {}

    def noted(_settings, spec, *, drop, named):
        dropped[spec.name] = drop
        return "Complete."

    monkeypatch.setattr("bot.cli.download.download_model", noted)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100e9))
    settings = load_settings(
        image_model_path=tmp_path, image_models=f"Qwen/Qwen-Image, {NEWER}", _env_file=None
    )
    assert download_models(settings, settings.models, drop=False)
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"Together they need 185 GB more at {tmp_path}, and 100 GB are free")
    assert download_models(settings, settings.models, drop=True)
    assert "Together" not in capsys.readouterr().out
    assert dropped == {"Qwen/Qwen-Image": True, NEWER: True}


@pytest.mark.slow
def test_a_run_that_gave_up_is_gone_on_from_by_the_next(hub, tmp_path):
    hub.cuts[LARGE] = [26 * 2**20, *[0] * 50]
    given_up = run(hub, tmp_path)
    assert given_up.returncode == 1
    assert f"{LARGE} is missing and could not be downloaded" in given_up.stderr
    hub.cuts.clear()
    hub.asked.clear()
    assert run(hub, tmp_path).returncode == 0
    (ranged,) = hub.bytes_sent_of(LARGE)
    assert ranged is not None
    assert int(ranged.removeprefix("bytes=").rstrip("-")) > 0
    assert {name for method, name, _ in hub.asked if method == "GET"} > {LARGE}


@pytest.mark.slow
def test_the_same_from_modelscope(hub, tmp_path):
    hub.cuts[LARGE] = [26 * 2**20]
    other = {"MODEL_SOURCE": "modelscope", "MODELSCOPE_ENDPOINT": hub.url}
    done = run(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9", **other)
    assert done.returncode == 0, done.stderr
    assert len(hub.bytes_sent_of(LARGE)) == 2
    assert not (tmp_path / "model" / "Qwen/Qwen-Image" / ".download").exists()
    (tmp_path / "model" / "Qwen/Qwen-Image" / LARGE).unlink()
    for status, said in ((404, "ModelScope knows no model"), (401, "and the bot has none for it")):
        hub.status = status
        assert said in run(hub, tmp_path, **other).stderr


@pytest.mark.slow
@pytest.mark.parametrize("source", ["huggingface", "modelscope"])
def test_the_lightning_file_comes_alone_and_draws_what_is_fast(tmp_path, source):
    eight, four = (f"Qwen-Image-Lightning-{n}steps-V2.0-bf16.safetensors" for n in (8, 4))
    files = {eight: network(8, 1), four: network(1, 2), f"x/{four}": b"no", LARGE: b"no"}
    with Hub(files) as hub:
        hub.cuts[eight] = [5 * 2**20]
        where = {"MODEL_SOURCE": source, "MODELSCOPE_ENDPOINT": hub.url}
        first = run(hub, tmp_path, "--lightning", "4", **where)
        assert first.returncode == 0, first.stderr
        assert f"Complete: {four}, 0.0 GB, in " in first.stdout
        assert first.stdout.strip().endswith("The quality fast draws with it in 4 steps.")
        second = run(hub, tmp_path, "--lightning", **where)
        assert second.returncode == 0, second.stderr
        assert second.stdout.strip().endswith("The quality fast draws with it in 8 steps.")
        assert len(hub.bytes_sent_of(eight)) == 2
        hub.asked.clear()
        again = run(hub, tmp_path, "--lightning", "4", IMAGE_QUALITY_FAST="20:4", **where)
        assert again.stdout.strip().endswith("IMAGE_QUALITY_FAST is set and counts before it.")
        other = run(hub, tmp_path, "--lightning", "4", **where)
        assert other.stdout.strip().endswith(f"{eight} is there too and counts before it.")
        assert not hub.asked
    for name in (eight, four):
        assert sha256((tmp_path / "loras" / name).read_bytes()) == sha256(files[name])
    assert sorted(path.name for path in tmp_path.rglob("*.safetensors")) == [four, eight]


@pytest.mark.slow
def test_no_lightning_file_is_one_sentence(tmp_path):
    with Hub({"README.md": b""}) as hub:
        gone = run(hub, tmp_path, "--lightning")
        hub.sizes["Qwen-Image-Lightning-8steps-V2.0-bf16.safetensors"] = 10**18
        hub.files["Qwen-Image-Lightning-8steps-V2.0-bf16.safetensors"] = b"x"
        full = run(hub, tmp_path, "--lightning")
        tiny = run(hub, tmp_path, "--lightning", IMAGE_MODEL_NAME="tiny")
        newest = run(hub, tmp_path, "2.1", "--lightning")
        eight = run(hub, tmp_path, "2.1", "--lightning", "8")
    assert "lightx2v/Qwen-Image-Lightning does not publish" in gone.stderr
    assert "GB more on the disk of IMAGE_LORA_PATH" in full.stderr
    assert "There is no Lightning file for tiny, only for Qwen/Qwen-Image," in tiny.stderr
    assert "2.1-Lightning does not publish Qwen-Image-2.1-Lightning-4steps-V1" in newest.stderr
    assert "The Lightning file for Qwen/Qwen-Image-2.1 has 4 steps, not 8." in eight.stderr
    for done in (gone, full, tiny, newest, eight):
        assert done.returncode == 1
        assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.slow
def test_each_model_gets_its_own_files_into_its_own_folder(hub, tmp_path):
    small = network(0, 0)
    sdxl = {
        "unet/diffusion_pytorch_model.fp16.safetensors": small,
        "text_encoder/model.fp16.safetensors": small,
        "text_encoder_2/model.fp16.safetensors": small,
        "vae/diffusion_pytorch_model.fp16.safetensors": small,
    }
    for folder in ("tokenizer", "tokenizer_2"):
        for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
            sdxl[f"{folder}/{name}"] = b"{}"
    other = {
        "unet/diffusion_pytorch_model.safetensors": small,
        "sd_xl_base_1.0.safetensors": small,
        "vae_1_0/diffusion_pytorch_model.fp16.safetensors": small,
    }
    root = tmp_path / "model"
    assert run(hub, tmp_path).returncode == 0
    hub.files = {**sdxl, **other}
    for model in ("Qwen/Qwen-Image-2512", "stabilityai/stable-diffusion-xl-base-1.0"):
        # What has no weights cache has nothing to drop, and is got all the same.
        options = () if model.startswith("Qwen") else ("--drop",)
        done = run(hub, tmp_path, *options, IMAGE_MODEL_NAME=model)
        if model.startswith("Qwen"):
            # The hub holds SDXL's files by now: another model's are not taken instead.
            assert done.returncode == 1
            assert "transformer/diffusion_pytorch_model-00001-of-*.safetensors" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        assert f"{model} has no weights cache with these settings: its files" in done.stdout
        assert f"Complete: 4 files of weights, 0.0 GB, in {root / model}." in done.stdout
        there = {str(p.relative_to(root / model)) for p in (root / model).rglob("*") if p.is_file()}
        assert there - {".download.lock"} == {*sdxl, ".model", "SHA256SUMS"}
        assert (root / model / ".model").read_text().strip() == model
