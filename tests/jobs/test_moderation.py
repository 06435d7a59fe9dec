"""Prompt rules: what they see, and that none of them holds anyone up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.errors import InvalidRequest
from bot.rules.prompt_rules import broken_rule, checked_rule

RULES = ["gore", "two words", "暴力", r"/\bfoo\d+\b/"]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("some GORE here", "gore"),
        ("ｇｏｒｅ", "gore"),
        ("g\u200bo\u00adre", "gore"),
        ("go\u0301re", "gore"),
        ("two \n words", "two words"),
        ("充满暴力的画面", "暴力"),
        ("a FOO12 b", r"/\bfoo\d+\b/"),
        ("gorejus", None),
        ("gorgeous", None),
        ("a fish", None),
    ],
)
def test_rules_see_through_disguises_and_leave_other_words(text, rule):
    assert broken_rule(RULES, text) == rule


def test_a_rule_that_never_ends_is_cut_off():
    rule = "/(.*)(.*)(.*)(.*)(?!.|$)/"
    assert broken_rule([rule], "y" * 1000) == rule


@pytest.mark.parametrize("rule", ["", "  ", "/(/", "/[/"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(InvalidRequest):
        checked_rule(rule)


@given(st.text(max_size=300), st.text(min_size=1, max_size=40))
def test_any_text_and_any_rule(text, rule):
    assert broken_rule([rule], text) in {None, rule}
    assert broken_rule([text], text) in {None, text}
