"""`python -m bot smoke`, as a user runs it."""

from __future__ import annotations

import hashlib
import json
import os
from importlib import metadata

import pytest
from PIL import Image

import bot
from bot.catalogue.models import find_model
from bot.cli.main import main
from bot.cli.smoke import SHEET, Shot, require_idle, table
from bot.config.settings import load_settings
from bot.doctor.smoke import FILE
from bot.errors import BotError
from storage.database import Database
from tests.process.doctor_kit import program

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGE_MODEL_NAME", "tiny")
    monkeypatch.chdir(tmp_path)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.engine
def test_full_draws_three_and_a_sheet(tmp_path, capsys):
    assert main(["smoke", "--full"]) == 0
    said = capsys.readouterr().out
    names = ["portrait", "chinese-text", "scene-with-text"]
    for name in names:
        with Image.open(tmp_path / "test-output" / f"{name}.png") as image:
            assert image.size == (256, 256)
        assert f"{name}.png" in said
    with Image.open(tmp_path / "test-output" / SHEET) as sheet:
        assert sheet.width > 3 * 256
    assert "loaded in" in said
    assert "denoise" in said


@pytest.mark.slow
@pytest.mark.engine
def test_each_offered_model_draws_and_one_that_fails_hinders_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMAGE_MODELS", "Qwen/Qwen-Image, tiny-ink")
    assert main(["smoke"]) == 1  # There is no card for one of them.
    said = capsys.readouterr().out
    assert "\nQwen/Qwen-Image failed: This model needs an NVIDIA GPU" in said
    for name in ("tiny", "tiny-ink"):
        assert f"\n{name}, " in f"\n{said}"
        with Image.open(tmp_path / "test-output" / name / "portrait.png") as image:
            assert image.size == (256, 256)
    assert main(["doctor", "--json", "--only", "last smoke"]) == 0
    found = [one for one in json.loads(capsys.readouterr().out) if "facts" in one]
    assert [one["facts"]["model"] for one in found] == ["tiny", "tiny-ink"]
    assert [one["text"].split()[0] for one in found] == ["tiny", "tiny-ink"]


@pytest.mark.slow
@pytest.mark.engine
def test_one_of_them_is_drawn_with_by_its_name(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IMAGE_MODELS", "tiny-ink")
    assert main(["smoke", "--model", "ink"]) == 0
    assert capsys.readouterr().out.startswith("tiny-ink, ")
    assert [path.name for path in (tmp_path / "test-output").iterdir()] == ["portrait.png"]


def test_a_name_that_means_no_model_is_told_with_those_that_there_are(capsys):
    for command in (["smoke", "--model", "sd15"], ["download", "qwen"]):
        assert main(command) == 1
        said = capsys.readouterr().err
        assert f"There is no model '{command[-1]}', or several; choose one of: Qwen/Qwen-" in said


@pytest.mark.slow
@pytest.mark.engine
def test_the_doctor_tells_what_it_drew(tmp_path, monkeypatch, capsys):
    """The same prompt and seed give the same pixels, by which two machines can be compared."""
    program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA GeForce RTX 3060, 580.65, 12288, 11000'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    hashes = set()
    for _ in range(2):
        assert main(["smoke"]) == 0
        capsys.readouterr()
        assert main(["doctor", "--json", "--only", "last smoke"]) == 0
        (found,) = [one for one in json.loads(capsys.readouterr().out) if "facts" in one]
        facts = found["facts"]
        hashes.add(facts["sha256"])
    with Image.open(tmp_path / "test-output" / "portrait.png") as image:
        assert hashes == {hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()}
    (card,) = facts["cards"]
    assert card == {"name": "NVIDIA GeForce RTX 3060", "bytes": 12288 * 2**20, "driver": "580.65"}
    assert facts["versions"]["bot"] == bot.__version__
    assert facts["versions"]["torch"] == metadata.version("torch")
    assert facts["seconds"]["total"] >= facts["seconds"]["denoise"] > 0
    assert (facts["seed"], facts["model"], facts["width"]) == (12345, "tiny", 256)
    assert facts["sha256"] in found["text"]


def test_without_a_picture_the_doctor_says_how_to_draw_one(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    assert main(["doctor", "--only", "last smoke"]) == 0
    assert "OK       last smoke: none yet: python -m bot smoke draws" in capsys.readouterr().out
    for broken in ("{", "[]", '{"seconds": {"total": "x"}}'):
        (tmp_path / FILE).write_text(broken)
        assert main(["doctor", "--only", "last smoke"]) == 0
        assert "WARNING  last smoke" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.engine
def test_an_empty_picture_fails_it(tmp_path, monkeypatch, capsys):
    empty = tmp_path / "empty.png"
    Image.new("RGB", (256, 256), "white").save(empty)
    monkeypatch.setattr("bot.cli.smoke.read_plain", lambda *_: empty.read_bytes())
    assert main(["smoke", "--out", "elsewhere"]) == 1
    said = capsys.readouterr().out
    assert "Nearly of one colour: portrait.png" in said
    assert SHEET not in said


def test_a_model_that_is_not_there_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setenv("IMAGE_MODEL_NAME", "huge")
    assert main(["smoke"]) == 78
    assert "not a known model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("Qwen/Qwen-Image", "This model needs an NVIDIA GPU", marks=pytest.mark.slow),
        ("tiny", "name another one with --out"),
    ],
)
def test_what_fails_is_said_in_one_sentence(name, said, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("IMAGE_MODEL_NAME", name)
    (tmp_path / "test-output").touch()
    out = ["--out", "elsewhere"] if name != "tiny" else []
    assert main(["smoke", *out]) == 1
    (only,) = capfd.readouterr().err.splitlines()
    assert said in only
    assert "load_failed" not in only


async def test_beside_the_running_bot_it_loads_no_second_model(tmp_path):
    settings = load_settings(
        image_model_name="Qwen/Qwen-Image", data_dir=tmp_path, discord_token=None, _env_file=None
    )
    models = settings.models
    require_idle(settings, models)
    database = await Database.open(settings.database_path)
    with pytest.raises(BotError, match="running and has the card"):
        require_idle(settings, models)
    require_idle(settings, (find_model("tiny"), find_model("tiny-ink")))
    with pytest.raises(BotError, match="running and has the card"):
        require_idle(settings, (find_model("tiny"), *models))
    await database.close()
    require_idle(settings, models)


def test_the_table_lines_up(tmp_path):
    shots = [
        Shot("portrait", tmp_path, {"denoise": 10.82, "total": 11.2}, 14 * 2**30, flat=False),
        Shot("chinese-text", tmp_path, {"denoise": 1.0, "total": 111.25}, None, flat=False),
    ]
    lines = table(shots)
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split() == ["portrait", "10.82", "11.20", "14.00"]
    assert lines[2].endswith("-")
