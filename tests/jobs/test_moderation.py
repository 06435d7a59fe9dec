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


SPELLINGS = {
    "fullwidth": "ｇｏｒｅ",
    "mathematical": "𝐠𝓸𝖗𝚎",
    "circled": "ⓖⓞⓡⓔ",
    "squared, negative": "🅶🅾🆁🅴",
    "flag letters": "🇬🇴🇷🇪",
    "small capitals": "ɢᴏʀᴇ",
    "stroke": "gøre",
    "accents": "g̷ó̶r̈ê",
    "Cyrillic among Latin": "gоrе",
    "Cyrillic capitals": "GОRЕ",
    "rough Cyrillic": "gоЯе",
    "Greek": "gοrε",
    "Armenian": "ցօre",
    "Cherokee": "ᏀOᏒᎬ",
    "zero width": "g\u200bo\u200cr\u2060e",
    "soft hyphens": "g\u00ado\u00adr\u00ade",
    "Hangul fillers": "g\u115fo\u3164r\uffa0e",
    "grapheme joiner, selectors": "g\u034fo\ufe0fr\U000e0101e",
    "empty Braille": "g\u2800o\u2800r\u2800e",
    "spaces": "g o r e",
    "points": "g.o.r.e",
    "hyphens": "go-re",
    "stars": "g**o*re",
    "underscores": "g_o_r_e",
    "lines": "g\no\nr\ne",
    "digits": "g0r3",
    "stretched": "goooorrre",
    "upper case and points": "G.O.R.E!!",
    "several at once": "G\u200b.0.г.е",
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_a_word_is_found_in_every_spelling(how):
    text = f"a photo of {SPELLINGS[how]}, dark"
    assert broken_rule(["gore"], text) == "gore"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("ass", "an @ss"),
        ("sex", "ѕех in the city"),
        ("kill", "ki11 them"),
        ("girl", "g1rl"),
        ("girl", "a g!rl"),
        ("gоre", "some gore"),
        ("g\u200bore", "some gore"),
        ("self-harm", "selfharm"),
        ("self-harm", "self.harm"),
        ("two words", "t w o w o r d s"),
        ("暴力", "暴 力"),
        ("暴力", "暴\u200b力"),
        ("кровь", "к р о в ь"),
        ("кровь", "КРОВЬ на снегу"),
        ("c++", "a C++ book"),
        (r"/\bgore\b/", "some gоre"),
    ],
)
def test_other_words_are_found_as_well(rule, text):
    assert broken_rule([rule], text) == rule


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        # Russian words of letters that all look Latin, among Russian ones.
        ("cop", "дети убирают сор во дворе"),
        ("poca", "утренняя роса на траве"),
        ("xep", "старый херувим, хор и орех"),
        ("cop", "IT-специалист пьёт сок"),
        # A Russian rule is none for English.
        ("сор", "a cop car"),
        # Signs between Chinese words part them.
        ("血腥", "出血。腥味很重"),
        ("血腥", "他在流血，腥气扑鼻"),
        ("girl", "1girl, 35mm, f/1.8, 4k"),
        ("gore", "gorgeous, gory, Gorez, regoretted"),
        ("gore", "I go, re-enter and go. Remarkable"),
        ("nude", "denude the hills"),
        ("tit", "title, titmouse, institution"),
        ("ass", "a s.s. officer, class, glass"),
        ("sex", "Essex, sextant, 6 ex-presidents"),
        ("hell", "shell, hello, the llama"),
        ("c++", "vitamin c"),
        ("us", "🇺🇸 flag"),
        ("fall", "fail"),
        ("com", "corn"),
    ],
)
def test_ordinary_words_are_left_alone(rule, text):
    assert broken_rule([rule], text) is None


def test_a_negative_prompt_has_rules_of_its_own():
    assert broken_rule(["gore"], "a house", "gore, nudity") is None
    rules = ["negative: clothes", r"Negative:/\bdress\w*/"]
    assert broken_rule(rules, "clothes, dressed", "blurry") is None
    assert broken_rule(rules, "a person", "cl0thes") == rules[0]
    assert broken_rule(rules, "a person", "dresses") == rules[1]


def test_a_rule_that_never_ends_is_cut_off():
    rule = "/(.*)(.*)(.*)(.*)(?!.|$)/"
    assert broken_rule([rule], "y" * 1000) == rule


@pytest.mark.parametrize("rule", ["", "  ", "/(/", "/[/", "\u200b", "negative:"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(InvalidRequest):
        checked_rule(rule)


@pytest.mark.slow
@given(st.text(max_size=300), st.text(min_size=1, max_size=40))
def test_any_text_and_any_rule(text, rule):
    assert broken_rule([rule], text) in {None, rule}
    assert broken_rule([text], text) in {None, text}
