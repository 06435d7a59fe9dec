"""Which offered model a person means, and which one a program names."""

from __future__ import annotations

import pytest

from bot.catalogue.models import MODELS, find_model
from bot.catalogue.offered import find_offered, named

ALL = tuple(MODELS.values())
QWEN, NEWER = "Qwen/Qwen-Image", "Qwen/Qwen-Image-2512"
SDXL = "stabilityai/stable-diffusion-xl-base-1.0"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *((name, name) for name in MODELS),
        ("qwen/QWEN-image", QWEN),
        ("Qwen-Image", QWEN),
        (" qwen image ", QWEN),
        ("2512", NEWER),
        ("qwen-image-2512", NEWER),
        ("image 2512", NEWER),
        ("2.1", "Qwen/Qwen-Image-2.1"),
        ("turbo", "Qwen/Qwen-Image-2.1-Turbo"),
        ("XL", SDXL),
        ("stable diffusion", SDXL),
        ("ink", "tiny-ink"),
        ("Tiny", "tiny"),
    ],
)
def test_a_person_names_an_offered_model_in_many_ways(text, meant):
    found = find_offered(ALL, text)
    assert found is not None
    assert found.name == meant


@pytest.mark.parametrize("text", ["", "  ", "qwen", "251", "dall-e-3", "/", "-"])
def test_what_names_none_or_several_finds_nothing(text):
    assert find_offered(ALL, text) is None


def test_what_is_not_offered_is_not_found():
    assert find_offered((find_model("tiny"),), "tiny-ink") is None
    assert find_offered((), "tiny") is None
    only = (find_model(NEWER),)
    assert find_offered(only, "qwen") == find_model(NEWER)


def test_a_program_names_a_model_whole():
    assert named(ALL, "qwen-image-2512") == named(ALL, NEWER) == find_model(NEWER)
    assert [named(ALL, text) for text in ("2512", "ink", "qwen image", "")] == [None] * 4
