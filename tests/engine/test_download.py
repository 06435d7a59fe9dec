"""Getting the model's files from a hub over real sockets, by the real client, as a user does it."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bot.engine import download
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


@pytest.fixture
def hub():
    files = {name: network(0, 0) for name in FILES}
    files[LARGE] = network(32, 7)
    files |= {"README.md": b"not wanted", "transformer/config.json": b"{}"}
    with Hub(files) as running:
        yield running


def run(hub: Hub, folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "IMAGE_MODEL_PATH": str(folder / "model"),
        **changes,
    }
    return subprocess.run(
        [sys.executable, "-m", "bot", "download"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_all_that_is_wanted_arrives_and_a_second_time_asks_for_nothing(hub, tmp_path):
    done = run(hub, tmp_path, HF_TOKEN="hf_canary_0123456789")
    assert done.returncode == 0, done.stderr
    assert "Complete: 14 files of weights" in done.stdout
    assert "downloading the model: 0%" in done.stdout
    for name, data in hub.files.items():
        path = tmp_path / "model" / name
        assert path.exists() == (name != "README.md")
        assert not path.exists() or sha256(path.read_bytes()) == sha256(data)
    assert hub.tokens == {"Bearer hf_canary_0123456789"}
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
    assert (tmp_path / "model" / LARGE).read_bytes() == hub.files[LARGE]


@pytest.mark.slow
def test_a_wrong_hash_is_told_and_the_file_fetched_again_next_time(hub, tmp_path):
    hub.hashes[LARGE] = "0" * 64
    done = run(hub, tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"The file {LARGE} was damaged on its way; it is downloaded again next time."
    )
    assert not (tmp_path / "model" / LARGE).exists()
    hub.hashes.clear()
    assert run(hub, tmp_path).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "wants a login for Qwen/Qwen-Image: put a token of an account that may read it into"),
        (403, "wants a login"),
        (404, "Hugging Face knows no model Qwen/Qwen-Image."),
        (503, "is missing and could not be downloaded from Hugging Face"),
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
    assert "could not be downloaded from Hugging Face" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


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
        download.download(tmp_path, "a/b", "huggingface", lambda *_: None)
    assert "is full; the download goes on once it is not" in str(caught.value.sentence)


def test_the_tiny_model_needs_nothing(hub, tmp_path):
    done = run(hub, tmp_path, IMAGE_MODEL_NAME="tiny")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing to download" in done.stdout


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
    assert not (tmp_path / "model" / ".download").exists()
    hub.status = 404
    (tmp_path / "model" / LARGE).unlink()
    done = run(hub, tmp_path, **other)
    assert "ModelScope knows no model" in done.stderr
