"""Midjourney's flags in a prompt: what is read, what is left out, and what are words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.catalogue.models import find_model
from bot.jobs.compose import Asked, Surroundings, compose
from bot.jobs.flags import read_flags
from bot.messages.details import details
from tests.jobs.test_model_defaults import job_of

QWEN = find_model("Qwen/Qwen-Image")


def read(prompt: str, **options) -> tuple[Asked, tuple[str, ...]]:
    return read_flags(Asked(prompt, **options), QWEN)


def test_flags_become_options_and_leave_the_prompt():
    asked, unread = read("a cat --ar 9:16 --no hats, fog --seed 7")
    assert (asked.prompt, asked.aspect, asked.negative, asked.seed) == (
        *("a cat", "9:16", "hats, fog"),
        7,
    )
    assert asked.flags == "--ar 9:16 --no hats, fog --seed 7"
    assert unread == ()
    request = compose(asked, Surroundings(QWEN))
    assert request.prompt == "a cat"
    shown = details(job_of(request), QWEN.name)
    assert "Read in the prompt: --ar 9:16 --no hats, fog --seed 7" in shown


@pytest.mark.parametrize(
    ("prompt", "words", "unread"),
    [
        ("a cat --v 7 --style raw --tile", "a cat", ("--v 7", "--style raw", "--tile")),
        ("a cat —ar 1:1", "a cat", ()),
        ("a cat --AR 1:1 on a mat", "a cat on a mat", ()),
        ("a cat --ar wide", "a cat wide", ("--ar",)),
        ("a cat --seed 99999999999999999", "a cat 99999999999999999", ("--seed",)),
        ("a cat --sref https://a.b/c https://d.e --s 50", "a cat",
         ("--sref https://a.b/c https://d.e", "--s 50")),
        ('a sign that says "exit --no entry"', 'a sign that says "exit --no entry"', ()),
        ("a well--no bucket -- and --smile", "a well--no bucket -- and --smile", ()),
    ],
)  # fmt: skip
def test_what_is_left_out_and_what_are_words(prompt, words, unread):
    asked, left = read(prompt)
    assert (asked.prompt, left) == (words, unread)


def test_options_count_before_flags_and_shapes_are_the_models():
    asked, unread = read("a cat --ar 1:1 --seed 5 --no fog", aspect="7:4", seed=3, negative="hats")
    assert (asked.aspect, asked.seed, asked.negative) == ("7:4", 3, "hats, fog")
    assert unread == ("--ar 1:1", "--seed 5")
    assert read("a cat --ar 21:9")[0].aspect in QWEN.sizes
    assert read("a cat --ar 2:3")[0].aspect == "2:3"
    assert read("a cat --draft")[0].draft


@given(st.text(alphabet='ab "-—:1no arsedv\n', max_size=60))
def test_nothing_that_is_typed_breaks_it(prompt):
    asked, unread = read(prompt)
    assert not (set(asked.prompt) - set(prompt) - {" "})
    if not asked.flags and not unread:
        assert asked.prompt == prompt
