"""The judgement on a rewritten prompt: whether it may be drawn in place of what somebody typed.

It may not where it loses or invents text that is to be written in the picture, loses or changes a
number, is in another language, is about something else, or is longer than is of use. All of it is
arithmetic over two texts: no model is asked about a model.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from typing import Final

from bot.domain.request import PROMPT_LIMIT
from bot.jobs.languages import same_language, script_of, shares_nothing
from bot.jobs.numerals import numbers_kept
from bot.jobs.quotes import quoted, same_quotes

LONGEST_TOKENS: Final = 512
"""Tokens of the longest prompt that Qwen-Image was trained on (bot/engine/tiny/tokenizer.py)."""
# Qwen's vocabulary, roughly: a word of Latin letters has some five of them with its space and 1.3
# tokens, an ideograph two thirds of one.
_LETTERS_A_TOKEN: Final = 3.5
_TOKENS_AN_IDEOGRAPH: Final = 0.8
# What writers say before the prompt: who only describes a picture does not begin so.
_PROMPT_WORD: Final = re.compile(r"\b(?:prompt|instruction)s?\b|提示[词詞语語]|指令")
_LABEL: Final = re.compile(
    r"(?:(?:this|is|the|my|your|an?|rewritten|expanded?|enhanced|improved|revised|refined|new|"
    r"final|optimi[sz]ed|updated|detailed|image|full|original|edit|editing)\s){0,8}"
    r"(?:prompt|instruction|version|result|answer|output|rewrite)s?(?: is)?\s{0,3}[:：]\s*|"
    r"[好的，, 以下下面是这为您你给出改写优化扩写润色后整完新最终图像绘画编辑]{0,24}"
    r"(?:提示[词詞语語]|指令)(?:是|为|如下)?\s{0,3}[:：]\s*",
    re.IGNORECASE,
)
_ANNOUNCED: Final = re.compile(
    r"(?:(?:sure|certainly|of course|okay|ok|absolutely|great)\b[,.!]?\s{0,3})?"
    r"here(?:['’]s| is| are)\b[^\n:：.]{0,80}[:：]\s*|"
    r"(?:sure|certainly|of course|okay|absolutely)[,.!:]\s*|"
    r"(?:好的|当然)[，,。！!：:]\s*|以下[是为][^\n:：。]{0,24}[:：]\s*",
    re.IGNORECASE,
)
_DECLINES: Final = re.compile(
    r"(?:i['’]?m |i am |we['’]?re )?(?:very |truly |so )?sorry\b[,.! ]|i['’]?m afraid\b|"
    r"unfortunately\b|regrettably\b|apologies\b|my apologies|i apologi[sz]e|"
    r"as an ai(?:,| (?:language |assistant|model))|"
    r"i (?:can ?not|can['’]t|could not|won['’]t|will not|must decline|am unable|do not|don['’]t)\b|"
    r"i['’]m (?:unable|not able)\b|"
    r"(?:很|非常|十分)?(?:抱歉|对不起|對不起)[，,。！!：我]|很遗憾[，,]|"
    r"我(?:无法|無法|不能|没有办法|不会)|作为(?:一[个名位])?(?:人工智能|AI|语言模型)",
    re.IGNORECASE,
)
_FENCE: Final = "`" * 3
_FENCE_LINE: Final = re.compile(r"\A[ \t]*[\w-]{0,20}[ \t]*\n")
_THOUGHT: Final = re.compile(r"</?think(?:ing)?>", re.IGNORECASE)
_LONGEST_HEADING: Final = 100
_ROUNDS: Final = 6
"""How much around a prompt is taken away: a label in bold within quotation marks is three."""


class Reason(StrEnum):
    """Why a prompt is drawn as it was typed, though it was to be rewritten."""

    EMPTY = "empty"
    """Nothing was written."""
    LENGTH = "length"
    QUOTES = "quotes"
    """Quoted text is lost, changed or added."""
    NUMBERS = "numbers"
    """A number is lost, or counts something else."""
    LANGUAGE = "language"
    SENSE = "sense"
    """It is about something else, or says that nothing is written."""
    RULES = "rules"
    """It breaks a rule that the server has for prompts."""
    UNAVAILABLE = "unavailable"
    """The engine cannot write, or failed to."""


def cleaned(answer: str, prompt: str) -> str:
    """Return what a model answered as a prompt: one paragraph, without what surrounds it.

    What it thought, what it says before the prompt, Markdown, and quotation marks around all of it
    are taken away, unless `prompt` has them too.
    """
    kept = "".join(c for c in answer if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})
    if not _THOUGHT.search(prompt):
        kept = _without_thoughts(kept)
    if _FENCE not in prompt:
        kept = _without_fences(kept)
    if "**" not in prompt:
        kept = kept.replace("**", "")
    text = " ".join(_without_heading(kept, prompt).split())
    whole = quoted(prompt).whole is not None
    for _round in range(_ROUNDS):
        inner = _without_label(text, prompt)
        if prompt.lstrip()[:1] not in {"#", ">", "*", "-"}:
            inner = re.sub(r"\A(?:[#>*-]+ )+", "", inner)
        if not whole and (within := quoted(inner).whole):
            inner = within
        if inner == text:
            break
        text = inner
    return text


def _without_thoughts(text: str) -> str:
    """Return what stands behind the last thought; of one that never ends there is nothing."""
    marks = list(_THOUGHT.finditer(text))
    if not marks:
        return text
    if not marks[-1][0].startswith("</"):
        return text[: marks[0].start()]
    return text[marks[-1].end() :]


def _without_fences(text: str) -> str:
    """Return what is in the first fenced block, or the text where there is none."""
    before, opened, behind = text.partition(_FENCE)
    if not opened:
        return text
    inner, closed, after = _FENCE_LINE.sub("", behind).partition(_FENCE)
    if closed and inner.strip():
        return inner
    return " ".join((before, inner, after.replace(_FENCE, " ")))


def _without_heading(text: str, prompt: str) -> str:
    """Return a text without a first line that only says what it is: "## Rewritten prompt"."""
    first, _, others = text.lstrip().partition("\n")
    said = first[:_LONGEST_HEADING].strip("#*>: \t") + ":"
    heading = _LABEL.fullmatch(said) and not _PROMPT_WORD.search(prompt.casefold())
    return others if heading and others.strip() else text


def _without_label(text: str, prompt: str) -> str:
    found = _LABEL.match(text)
    if found is not None and not _PROMPT_WORD.search(prompt.casefold()):
        return text[found.end() :]
    found = _ANNOUNCED.match(text)
    if found is not None and not _ANNOUNCED.match(prompt.lstrip()):
        return text[found.end() :]
    return text


def judge(prompt: str, rewritten: str) -> Reason | None:
    """Return why `rewritten` may not be drawn in place of `prompt`; None: it may."""
    if not rewritten.strip():
        return Reason.EMPTY
    if too_long(prompt, rewritten):
        return Reason.LENGTH
    said, now = quoted(prompt), quoted(rewritten)
    if _DECLINES.match(rewritten.lstrip()) and not _DECLINES.match(prompt.lstrip()):
        return Reason.SENSE
    if not same_quotes(said, now):
        return Reason.QUOTES
    # Of a quotation that is not closed nobody knows which words are to be written.
    if said.unclosed or now.unclosed:
        asked, given = prompt, rewritten
    else:
        asked, given = said.rest, now.rest
    if not numbers_kept(asked, given):
        return Reason.NUMBERS
    if not same_language(asked, given):
        return Reason.LANGUAGE
    # Quoted text that is kept is what they share, where a prompt says little else.
    if not said.strings and shares_nothing(asked, given):
        return Reason.SENSE
    return None


def too_long(prompt: str, rewritten: str) -> bool:
    """Tell whether a rewrite is longer than the model reads, and than what was typed."""
    if len(rewritten) > PROMPT_LIMIT:
        return True
    return _tokens(rewritten) > max(LONGEST_TOKENS, _tokens(prompt))


def is_chinese(text: str) -> bool:
    """Tell whether a text is mostly Chinese."""
    letters = [c for c in text if unicodedata.category(c).startswith("L")]
    ideographs = sum(unicodedata.name(c, "").startswith("CJK UNIFIED") for c in letters)
    # A word of English has several letters where Chinese has one character.
    return ideographs * 3 > len(letters)


def _tokens(text: str) -> float:
    ideographs = sum(script_of(character) == "CJK" for character in text)
    return ideographs * _TOKENS_AN_IDEOGRAPH + (len(text) - ideographs) / _LETTERS_A_TOKEN
