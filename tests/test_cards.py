"""Which cards there are, by a driver's program that is a script here, and which engines that makes."""

from __future__ import annotations

import os

import pytest

from bot.app.engines import local_engines
from bot.config.settings import load_settings
from bot.errors import ConfigError, StartupError
from bot.machine import nvidia, usage

FIRST, SECOND = "GPU-1a2b3c4d-0000", "GPU-5e6f7a8b-0000"


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Make `nvidia-smi` print this."""

    def install(output: str, code: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    monkeypatch.delenv(nvidia.VISIBLE, raising=False)
    install(f"{FIRST}, NVIDIA GeForce RTX 4090\n{SECOND}, NVIDIA GeForce RTX 3090")
    return install


def found(**environment: str) -> list[tuple[str, str | None]]:
    return [(card.id, card.name) for card in nvidia.visible(environment)]


def test_every_card_is_used_unless_some_are_chosen(driver):
    both = [(FIRST, "NVIDIA GeForce RTX 4090"), (SECOND, "NVIDIA GeForce RTX 3090")]
    assert found() == both
    assert found(CUDA_VISIBLE_DEVICES=SECOND) == both[1:]
    assert found(CUDA_VISIBLE_DEVICES="GPU-5e6f") == [("GPU-5e6f", "NVIDIA GeForce RTX 3090")]
    # Which number is which card is CUDA's to say.
    assert found(CUDA_VISIBLE_DEVICES="1, 0") == [("1", None), ("0", None)]
    assert found(CUDA_VISIBLE_DEVICES="0,-1,1") == [("0", None)]
    assert found(CUDA_VISIBLE_DEVICES="") == []


def sizes(*ids: str) -> list[int]:
    """Return how many MiB are free of each card, by the driver; 0 is unknown."""
    return [card.free // 2**20 for card in nvidia.with_memory([nvidia.Gpu(one) for one in ids])]


def test_the_memory_of_chosen_cards_is_theirs(driver):
    driver(f"{FIRST}, 24564, 20000\n{SECOND}, 24564, 9000")
    assert sizes(SECOND, FIRST) == [9000, 20000]
    assert sizes("GPU-5e6f") == [9000]
    # Cut so short that it names both, or a number: it is not guessed.
    assert sizes("GPU-", "1", "MIG-1") == [0, 0, 0]
    driver(f"{FIRST}, 24564, 20000")
    assert sizes("0") == [20000]
    driver(f"{FIRST}, [N/A], [N/A]\nnonsense")
    assert sizes(FIRST) == [0]
    driver("failed", 9)
    assert sizes(FIRST) == [0]


def test_a_driver_that_fails_has_no_cards(driver):
    driver("NVIDIA-SMI has failed because it couldn't communicate with the driver", 9)
    assert found() == []
    driver("nonsense")
    assert found() == []


async def memory(folder) -> list[tuple[int, int]]:
    machine = await usage.look(folder, folder / "no.db")
    return [(card.used, card.total) for card in machine.cards]


async def test_the_memory_of_each_card_is_told_in_bytes(driver, tmp_path):
    driver("1024, 24564\n[N/A], [N/A]\n12, 8192")
    assert await memory(tmp_path) == [(2**30, 24564 * 2**20), (12 * 2**20, 2**33)]
    driver("1024, 24564\nUnable to determine the device handle for GPU1: Unknown Error", 255)
    assert await memory(tmp_path) == [(2**30, 24564 * 2**20)]


async def test_a_driver_that_hangs_tells_no_memory_and_keeps_nobody(driver, tmp_path, monkeypatch):
    driver("1024, 24564")
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\nexec sleep 100\n")
    monkeypatch.setattr(usage, "_PATIENCE_S", 0.3)
    assert await memory(tmp_path) == []


async def test_without_a_driver_there_is_no_memory_to_tell_of(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await memory(tmp_path) == []
    (tmp_path / "nvidia-smi").write_text("not a program\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert await memory(tmp_path) == []
    assert nvidia.visible({}) == []


def settings(engines: str, model: str = "Qwen/Qwen-Image", others: str = ""):
    return load_settings(
        image_model_name=model, image_models=others, engines=engines, _env_file=None
    )


def test_an_engine_a_card(driver):
    planned = local_engines(settings("local"))
    assert [(one.name, one.card) for one in planned] == [
        ("local-0", "NVIDIA GeForce RTX 4090"),
        ("local-1", "NVIDIA GeForce RTX 3090"),
    ]
    assert [one.engine._environment for one in planned] == [
        {"CUDA_VISIBLE_DEVICES": FIRST},
        {"CUDA_VISIBLE_DEVICES": SECOND},
    ]
    assert len(local_engines(settings("local:1"))) == 1
    with pytest.raises(StartupError, match="needs 3 graphics cards; this machine shows 2"):
        local_engines(settings("local:3"))


def test_the_tiny_model_needs_no_card(driver):
    assert [one.card for one in local_engines(settings("local", "tiny"))] == [None]
    assert len(local_engines(settings("local:3", "tiny"))) == 3
    assert len(local_engines(settings("local:3", "tiny", "tiny-ink"))) == 3


def test_of_several_models_one_that_needs_a_card_is_enough(driver):
    mixed = settings("local", "tiny", "Qwen/Qwen-Image")
    cards = ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090"]
    assert [one.card for one in local_engines(mixed)] == cards
    with pytest.raises(StartupError, match="needs 3 graphics cards"):
        local_engines(settings("local:3", "tiny", "Qwen/Qwen-Image"))


def test_without_a_card_the_engine_says_what_is_wrong(driver):
    driver("", 9)
    assert len(local_engines(settings("local"))) == 1
    with pytest.raises(StartupError, match="shows 0"):
        local_engines(settings("local:2"))


@pytest.mark.parametrize("value", ["local:0", "local:", "locale", "local:-1", "local:1000", "2"])
def test_a_wrong_setting_is_one_sentence(value):
    with pytest.raises(ConfigError, match="ENGINES: it must be local"):
        settings(value)
