"""The sanitiser: nothing pings, nothing formats, nothing hides."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.jobs.outlook import QueuePlace
from bot.messages.status import waiting_status
from bot.messages.text import expected, plain, safe, shorten

MENTIONS = ["@everyone", "@here", "<@123>", "<@!123>", "<@&123>", "<#123>", "</imagine:1>",
            "<t:0:R>", "<:x:123>", "<id:home>"]  # fmt: skip


@pytest.mark.parametrize("mention", MENTIONS)
def test_mentions_are_inert(mention):
    assert mention not in safe(f"a {mention} b")


@pytest.mark.parametrize(
    "text",
    ["**bold**", "__u__", "~~s~~", "||spoiler||", "`code`", "```\nfence\n```", "# head", "-# small",
     "- item", "+ item", "1. one", "2) two", "> quote", "[name](https://example.org)", "_i_"],
)  # fmt: skip
def test_markdown_is_shown_as_typed(text):
    made = safe(text)
    assert re.sub(r"\\([\\`*_~|<>\[\]().#+-])", r"\1", made).replace("\u200b", "") == text
    assert not re.search(r"(?<!\\)[`*~|\[]", made)
    assert not re.match(r"\s*(#{1,3} |-# |[-+] |\d+[.)] |>)", made)


def test_links_do_not_open():
    assert "://" not in safe("see https://example.org and http://x.y")


def test_hidden_and_reordering_marks_are_dropped():
    assert safe("a\u202eb\u2066c\u200bd\ufeff") == "abcd"


def test_stacked_marks_are_limited():
    made = safe("e" + "\u0301" * 1000)
    assert sum(1 for c in made if unicodedata.combining(c)) == 4
    assert len(safe("e" + "\u0489" * 900)) == 5


def test_emoji_sequences_survive():
    family = "👨\u200d👩\u200d👧"
    assert safe(family) == family


@given(st.text(max_size=6000))
def test_any_text_is_inert_and_bounded(text):
    made = safe(text, 1000)
    assert "@everyone" not in made
    assert not re.search(r"(?<!\\)(?:\\\\)*<[@#/t:a]", made)
    assert len(made) <= 4 * 1000 + 10


@given(st.text(), st.integers(1, 50))
def test_shorten(text, limit):
    made = shorten(text, limit)
    assert len(made) <= limit
    assert made == text or made.endswith("…")


def test_plain_is_one_line():
    assert plain("  a\nb \u202e ", 100) == "a b"
    assert plain("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("left", "mark"), [(-5, None), (59, None), (61, "t"), (43_000, "t"), (90_000, "f")]
)
def test_what_is_expected_is_never_said_to_be_past(left, mark):
    now = 1_800_000_000.0
    assert expected(now + left, now) == (mark and f"<t:{now + left:.0f}:{mark}>")
    place = QueuePlace(2, now + left, None)
    assert ":R>" not in waiting_status(place, None)
