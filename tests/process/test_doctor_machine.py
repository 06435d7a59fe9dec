"""What `python -m bot doctor` says of machines that are not as they should be."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import metadata

import pytest

from bot.catalogue.models import MODELS
from bot.config.settings import Settings
from bot.doctor import card
from tests.jobs.kit import finish, open_queue, submit
from tests.process.doctor_kit import program, safetensors, whole_model
from tests.process.kit import ROOT

CARD = 'case "$1" in *compute*) echo "4242, /usr/bin/a game, 20000";; *) echo "{}";; esac'
ROOMY = "NVIDIA GeForce RTX 4090, 580.65.06, 24564, 24000"
TWO = f"{ROOMY}\\n{ROOMY.replace('4090', '3090').replace('24000', '2000')}"
FULL = "NVIDIA GeForce RTX 4090, 580.65.06, 24564, 2000"
BARE = """
import sys; sys.path.insert(0, {root!r})
from bot.cli.main import main
sys.exit(main(['doctor']))
"""
OLD_TORCH = """
__version__ = "2.9.0{build}"
class version: cuda = {cuda}
class cuda:
    @staticmethod
    def is_available():
        import warnings
        {warning}
        return False
"""


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in (*Settings.model_fields, "hf_token", "hf_home", "hf_hub_cache", "hf_hub_offline"):
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub-home"))
    monkeypatch.chdir(tmp_path)
    program(tmp_path / "bin", "nvidia-smi", CARD.format(ROOMY))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)


def test_without_any_package_it_says_so():
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         BARE.format(root=str(ROOT))],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ""
    assert "ERROR    packages: discord.py is not installed" in done.stdout
    assert "-m pip install -r" in done.stdout
    assert "the rest was not checked" in done.stdout


def test_a_package_of_the_wrong_version_is_named(tmp_path, monkeypatch, capsys):
    from bot.doctor import packages

    (tmp_path / "requirements.txt").write_text(
        "# a comment\npillow<2  # too old\nrich>=1\nno-such-thing-here>=1\n"
    )
    monkeypatch.setattr(packages, "_ROOT", tmp_path)
    first, second = packages.packages()
    assert first.text.startswith("pillow ")
    assert "<2 is wanted" in first.text
    assert second.text == "no-such-thing-here is not installed"


def test_versions_that_were_not_tested_are_named(tmp_path, monkeypatch):
    from bot.doctor import packages

    monkeypatch.setattr(packages, "_ROOT", tmp_path)
    (found,) = packages.tested_versions()
    assert (found.level, found.text) == ("ok", "unknown: there is no requirements.lock")
    rich, torch = metadata.version("rich"), metadata.version("torch").partition("+")[0]
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"# made\nrich=={rich} \\\n    --hash=sha256:00\n    # via -r x\nno-such-thing==1\npip==1.0\n"
        "pillow==1.0 ; sys_platform == 'nowhere' \\\n    --hash=sha256:00\n"
    )
    (tmp_path / "requirements-torch.lock").write_text(f"torch=={torch}\n")
    (found,) = packages.tested_versions()
    assert found.level == "ok"
    assert found.text == "all 2 packages are of the versions that were tested"
    lock.write_text(lock.read_text().replace("nowhere", sys.platform))
    (found,) = packages.tested_versions()
    assert found.level == "warning"
    assert f"pillow {metadata.version('pillow')} (tested: 1.0)" in found.text
    assert "rich" not in found.text
    assert str(lock) in found.step
    assert "requirements-torch.lock" not in found.step


def test_a_card_with_room(look):
    ((level, text, _),) = look("graphics card")[:1]
    assert (level, text) == ("ok", "NVIDIA GeForce RTX 4090, 24.0 GiB, driver 580.65.06")
    assert look("graphics card")[1][0] == "ok"


def test_a_card_that_others_fill(look, tmp_path, monkeypatch):
    program(tmp_path / "bin", "nvidia-smi", CARD.format(FULL))
    _, (level, text, step) = look("graphics card")
    assert level == "warning"
    assert "2.0 GiB free; the budget is 1.4 GiB (by what is free)" in text
    assert "wants 4 GiB" in text
    assert "a game" in text
    assert "close other programs" in step
    program(tmp_path / "bin", "nvidia-smi", CARD.format(ROOMY.replace("24000", "9000")))
    _, (level, text, _) = look("graphics card")
    assert level == "ok"
    assert "the budget is 8.2 GiB (by what is free), and 21.6 GiB when nothing else" in text
    monkeypatch.setenv("IMAGE_GPU_MEMORY_UTILIZATION", "0.1")
    _, (level, text, step) = look("graphics card")
    assert level == "error"
    assert "2.4 GiB (by IMAGE_GPU_MEMORY_UTILIZATION)" in text
    assert "raise IMAGE_GPU_MEMORY_UTILIZATION" in step


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9", "failed"),
        ("exec sleep 100", "did not answer"),
        ("echo nonsense", "nonsense"),
        ("true", "no card"),
    ],
)
def test_a_driver_that_does_not_work(look, tmp_path, monkeypatch, script, said):
    monkeypatch.setattr(card, "SMI_S", 0.3)
    program(tmp_path / "bin", "nvidia-smi", script)
    ((level, text, step),) = look("graphics card")
    assert level == "error"
    assert said in text
    assert "driver" in step
    monkeypatch.setenv("IMAGE_MODEL_NAME", "tiny")
    assert look("graphics card")[0][0] == "ok"


@pytest.mark.parametrize(
    ("torch", "said", "step"),
    [
        (OLD_TORCH.format(build="+cpu", cuda="None", warning=""), "the CPU alone, but there is an NVIDIA",
         "--force-reinstall torch torchvision --index-url https://download.pytorch.org/whl/cu128"),
        (OLD_TORCH.format(build="+cu130", cuda="'13.0'", warning="warnings.warn('driver too old')"),
         "it cannot use the card (driver too old)", "update the driver"),
        ("raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart", "pip install"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "exit status -11", "pip install"),
    ],
)  # fmt: skip
def test_a_pytorch_that_does_not_fit(look, tmp_path, monkeypatch, torch, said, step):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    ((level, text, next_step),) = look("PyTorch")
    assert level == "error"
    assert said in text
    assert step in next_step


@pytest.mark.slow
def test_the_real_pytorch(look, monkeypatch):
    monkeypatch.setenv("IMAGE_MODEL_NAME", "tiny")
    ((level, text, _),) = look("PyTorch")
    assert level == "ok"
    assert "built for" in text


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "Qwen/Qwen-Image-2.1",
            "of Qwen/Qwen-Image-2.1: Qwen Research License (no commercial use)",
        ),
        ("tiny", "of tiny: this bot's own"),
    ],
)
def test_the_licence_is_said(look, monkeypatch, model, said):
    monkeypatch.setenv("IMAGE_MODEL_NAME", model)
    assert look("licence") == [("ok", said, "")]


def test_a_model_that_is_not_there_yet(look, tmp_path, monkeypatch):
    ((level, text, step),) = look("model files")
    assert level == "warning"
    assert "is not in" in text
    assert "python -m bot download" in step
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert look("model files")[0][0] == "error"
    snapshot = tmp_path / "hub-home/hub/models--Qwen--Qwen-Image/snapshots/abc"
    whole_model(snapshot)
    ((level, _, step),) = look("model files")
    assert level == "warning"
    assert f"IMAGE_MODEL_PATH={snapshot}" in step


def test_model_files_that_are_missing_cut_off_or_no_such_files(look, tmp_path, monkeypatch):
    root = tmp_path / "model"
    monkeypatch.setenv("IMAGE_MODEL_PATH", str(root))
    first, second, encoder, vae = whole_model(root)
    ((level, text, _),) = look("model files")
    assert (level, "complete" in text) == ("ok", True)
    first.write_bytes(first.read_bytes()[:-10])
    encoder.write_bytes(b"<html>not found</html>")
    vae.write_bytes(b"\x02\0\0\0\0\0\0\0[]" + bytes(20))
    (root / "vae" / "part.incomplete").write_bytes(b"half")
    found = look("model files")
    texts = {text.split()[0]: text for level, text, _ in found if level == "error"}
    assert "is cut off: " in texts[str(first)]
    assert "no safetensors file" in texts[str(encoder)]
    assert "damaged header" in texts[str(vae)]
    assert any(level == "warning" and "unfinished" in text for level, text, _ in found)
    second.unlink()
    assert any("is not complete" in text for _, text, _ in look("model files"))


def test_hashes_are_compared_with_what_the_hub_gave(look, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGE_MODEL_PATH", str(tmp_path))
    right, wrong, _unknown = (safetensors(tmp_path / f"vae/{n}.safetensors") for n in "abc")
    notes = tmp_path / ".cache/huggingface/download/vae"
    notes.mkdir(parents=True)
    for path, tag in ((right, hashlib.sha256(right.read_bytes()).hexdigest()), (wrong, "0" * 64)):
        (notes / f"{path.name}.metadata").write_text(f"revision\n{tag}\n1700000000.0\n")
    ((level, text, _),) = look("model hashes")
    assert (level, str(wrong) in text) == ("error", True)
    wrong.unlink()
    assert look("model hashes")[0][:2] == (
        "ok",
        "1 of 2 compared and right; no hash is recorded for 1",
    )


@pytest.mark.parametrize(
    ("name", "size"), [("Qwen/Qwen-Image-2512", "58 GB"), ("Qwen/Qwen-Image", "58 GB")]
)
def test_what_is_to_come_is_the_chosen_models(look, tmp_path, monkeypatch, name, size):
    monkeypatch.setenv("IMAGE_MODEL_NAME", name)
    ((_, text, step),) = look("model files")
    assert name in text
    assert size in step


def test_another_models_files_are_not_taken_for_the_chosen_ones(look, tmp_path, monkeypatch):
    root = tmp_path / "model"
    monkeypatch.setenv("IMAGE_MODEL_PATH", str(root))
    monkeypatch.setenv("IMAGE_MODEL_NAME", "Qwen/Qwen-Image-2512")
    whole_model(root)
    ((level, text, _),) = look("model files")
    assert level == "warning"
    assert f"(the files in {root} are taken for Qwen/Qwen-Image's)" in text
    (root / ".model").write_text("Qwen/Qwen-Image-2512")
    assert look("model files")[0][0] == "ok"


def test_little_room_for_the_model(look, monkeypatch):
    spec = MODELS["Qwen/Qwen-Image"]
    greedy = replace(spec, published=replace(spec.published, cache_bytes=2**70))
    monkeypatch.setitem(MODELS, spec.name, greedy)
    ((level, _, step),) = look("model disk")
    assert (level, "IMAGE_MODEL_PATH" in step) == ("error", True)


def test_a_compiler_that_is_missing(look, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    ((level, text, _),) = look("compiler")
    assert (level, "a C compiler" in text) == ("warning", True)


def test_memory_is_told(look, tmp_path, monkeypatch):
    assert "GiB" in look("main memory")[0][1]
    assert "no two models" in look("models kept")[0][1]
    monkeypatch.setenv("IMAGE_MODELS", "Qwen/Qwen-Image,Qwen/Qwen-Image-2512")
    assert "all 2 take up to 58 GiB of main memory" in look("models kept")[0][1]
    monkeypatch.setenv("IMAGE_KEEP_MODELS", "0")
    assert "none: switches read from the disk" in look("models kept")[0][1]
    assert "pins about 0.0 GiB" in look("pinned memory")[0][1]
    program(tmp_path / "bin", "nvidia-smi", CARD.format(ROOMY.replace("24000", "9000")))
    assert "pins about 6.7 GiB" in look("pinned memory")[0][1]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of Unix")
def test_a_token_file_that_others_may_read(look, tmp_path):
    (tmp_path / ".env").write_text("")
    (tmp_path / ".env").chmod(0o644)
    assert look(".env")[0][0] == "warning"
    (tmp_path / ".env").chmod(0o600)
    assert look(".env")[0][0] == "ok"


async def test_the_last_engine_error(look, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert look("last engine error")[0][0] == "ok"
    async with open_queue(tmp_path) as (queue, _):
        await submit(queue)
        job = await queue.get()
        await queue.commits.record_fault(
            job, "out_of_memory", "a sentence", "CUDA out of memory", final=True
        )
        ((level, text, step),) = look("last engine error")
        assert level == "warning"
        assert "CUDA out of memory" in text
        assert job.id in text
        assert "IMAGE_VRAM_GB" in step
        queue._clock.now += 60
        await submit(queue)
        assert await finish(queue, await queue.get())
    ((level, text, _),) = look("last engine error")
    assert (level, text.endswith("pictures were drawn since")) == ("ok", True)


PIPE = """
import os, sys
from bot.doctor import checks
from bot.cli.main import main
checks.CHECKS["model files"] = checks.Entry(checks.model_files, limit_s=0.5)
sys.exit(main(["doctor", "--only", "model files,log"]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="named pipes of Unix")
def test_a_disk_that_hangs_ends_neither_the_report_nor_the_process(tmp_path):
    folder = tmp_path / "models/images/qwen-image/transformer"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "diffusion_pytorch_model.safetensors")  # whose readers wait for ever
    done = subprocess.run(
        [sys.executable, "-c", PIPE], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=50,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "no answer within 0.5 s" in done.stdout
    assert "OK       log" in done.stdout


STRANGER = """
import os, sys
from bot.doctor import checks, packages
from bot.cli.main import main
import encodings.idna, resource
if os.geteuid() == 0:
    os.seteuid(65534)
sys.exit(main(["doctor", "--json", "--only", ",".join(sys.argv[1:])]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="modes of Unix")
def test_folders_that_belong_to_someone_else(tmp_path):
    root = tmp_path / "models"
    files = whole_model(root)
    files[0].chmod(0)
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "bot.sqlite3").write_bytes(b"")
    (tmp_path / "closed").chmod(0)
    for folder in (tmp_path, *list(tmp_path.parents)[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, "model files", "data folder", "database", "schema",
         "pictures", "log", "last engine error", "temporary files", "free disk"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50,
        env=os.environ | {
            "PYTHONPATH": str(ROOT), "DATA_DIR": str(tmp_path / "closed"),
            "IMAGE_MODEL_PATH": str(root), "LOG_DIR": str(tmp_path / "closed" / "logs"),
        },
    )  # fmt: skip
    (tmp_path / "closed").chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    found = {item["check"]: item for item in json.loads(done.stdout)}
    assert "cannot be read (Permission denied)" in found["model files"]["text"]
    assert found["data folder"]["level"] == "error"
    assert found["log"]["level"] == "warning"
    # Each says it in a sentence of its own, none with a bare exception.
    assert not [item for item in found.values() if "could not be checked" in item["text"]], found


def test_several_cards_and_fewer_than_engines(look, monkeypatch, tmp_path):
    program(tmp_path / "bin", "nvidia-smi", CARD.replace("echo", "printf", 2).format(TWO))
    (first, *_), (level, text, _) = look("graphics card")
    assert first == "ok"
    assert (level, "2.0 GiB free" in text) == ("warning", True)
    monkeypatch.setenv("ENGINES", "local:3")
    assert look("graphics card")[1][:2] == (
        "error",
        "ENGINES=local:3 wants more cards than CUDA_VISIBLE_DEVICES and the driver show (2)",
    )
    monkeypatch.setenv("ENGINES", "local")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert look("graphics card")[1][0] == "error"
