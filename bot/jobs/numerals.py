"""The numbers of a text, in digits or words, each with what it counts.

Every number of a prompt has to stay in its rewrite, but for one: "one cat" may become "a cat", and
may not become two. A number that is added is let be: a rewrite adds a
50mm lens, two moons and the 1970s where nothing of the kind was said, and refusing those would
refuse most of them. What may not be is that a thing which the prompt counts is counted otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final

_SIGNS: Final = {
    **{sign: n for n, sign in enumerate("〇一二三四五六七八九")},
    "零": 0,
    "两": 2,
    "兩": 2,
}
_TIMES: Final = {"十": 10, "百": 100, "千": 1000}
_MYRIADS: Final = {"万": 10_000, "萬": 10_000, "亿": 100_000_000, "億": 100_000_000}
_ALL_SIGNS: Final = "".join((*_SIGNS, *_TIMES, *_MYRIADS))
# Nobody counts with more; arithmetic over thousands of them would take its time.
_MOST_SIGNS: Final = 16
_MEASURES: Final = (
    "个個只隻条條朵位匹辆輛座张張把本棵颗顆头頭名艘架件双雙对對块塊片支枝杯瓶碗盏盞栋棟人年岁歲点點月日天"
    "层層米楼元次种種群排列串根副部台幅扇间間家所口缕束滴粒枚尊道轮团堆套组页册篇首行号号秒寸倍匙盘盆箱袋"
)
# Before a measure word alone: in 十分 and 三明治 nothing is counted, in 几十个 nothing exactly.
_MEASURED: Final = re.compile(f"(?<![{_ALL_SIGNS}几数])([{_ALL_SIGNS}]+)[多余]?([{_MEASURES}])")
_NUMERAL_OR_END: Final = re.compile(
    f"[{_ALL_SIGNS}和与及跟在是有着了正被从向对坐站躺趴走跑飞旁上下里前后]"
)
_ATTRIBUTES: Final = "小大红黑白黄蓝绿老长高美可金银彩新旧胖瘦"
_TAIL: Final = 8

_UNITS: Final = (
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS: Final = (
    "twenty thirty forty fifty sixty seventy eighty ninety",
    "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig",
    "vingt trente quarante cinquante soixante",
    "veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    "venti trenta quaranta cinquanta sessanta settanta ottanta novanta",
    "vinte trinta quarenta cinquenta sessenta setenta oitenta noventa",
    "twintig dertig veertig vijftig zestig zeventig tachtig negentig",
)
_FROM_TWO: Final = (
    _UNITS,
    "zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "deux trois quatre cinq six sept huit neuf dix onze douze",
    "dos tres cuatro cinco seis siete ocho nueve diez once doce",
    "due tre quattro cinque sei sette otto nove dieci undici dodici",
    "dois três quatro cinco seis sete oito nove dez onze doze",
    "twee drie vier vijf zes zeven acht negen tien elf twaalf",
)
_LARGE: Final = {
    **dict.fromkeys(("hundred", "hundert", "cent", "cien", "cento", "cem", "honderd"), 100),
    **dict.fromkeys(("thousand", "tausend", "mille", "mil", "duizend"), 1000),
    **dict.fromkeys(("million", "millionen", "millones", "milioni", "miljoen"), 1_000_000),
    **dict.fromkeys(("dozen", "dutzend", "douzaine", "docena", "dozzina", "dúzia", "dozijn"), 12),
}
_SMALL: Final = {
    **{word.casefold(): n for words in _FROM_TWO for n, word in enumerate(words.split(), 2)},
    **{word.casefold(): 10 * n for words in _TENS for n, word in enumerate(words.split(), 2)},
    "duas": 2,
    "zwo": 2,
}
# Words of another language than that in which they are numbers (a wood elf, once, an otto, o gato
# dos olhos, un chapeau neuf): nothing is asked to stay for their sake.
_DOUBTFUL_WORDS: Final = "elf once dos due sei otto neuf doce doze sete sept tre cent mil one"
_DOUBTFUL: Final = frozenset(_DOUBTFUL_WORDS.split())
_ARTICLE_WORDS: Final = "a an un une una uno um uma ein eine einen einem einer een"
_ARTICLES: Final = frozenset(_ARTICLE_WORDS.split())
_CONNECTING: Final = frozenset({"and", "y", "e"})
_END_WORDS: Final = (
    "of and or with in on at is are to the by from for as that which who under over near behind "
    "beside between der die das und mit im am auf von zu le la les et avec de des du dans sur au "
    "el los las y con en del por o os e com no na do da em dos het met van op il lo gli nel di "
    "one's another other side more"
)
_ENDS: Final = frozenset(_END_WORDS.split())
_PLURALS: Final = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "mice": "mouse",
    "geese": "goose", "feet": "foot", "teeth": "tooth",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r"[1-9]\d{0,2}(?:[ ']\d{3})+(?!\d)|\d+(?:[.,:]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*|[^\s-]"
)
_THOUSANDS: Final = re.compile(r"[1-9]\d{0,2}(?:([ ',.])\d{3})(?:\1\d{3})*")
_WINDOW: Final = 4
_MOST_GROWTH: Final = 4
_SHORTEST_STEM: Final = 3
_LONGEST_DIGITS: Final = 9
"""Digits that are multiplied (3 million, 3万); longer numbers are compared as they are written."""
_TEN: Final = 10
_HUNDRED: Final = 100
_THOUSAND: Final = 1000
_LARGEST: Final = 10**12


@dataclass(frozen=True)
class _Number:
    value: str
    firm: bool
    """It has to stay; else it may, and may not be another."""
    counted: tuple[str, ...] = ()
    """The words behind it, one of which is likely what it counts."""
    article: bool = False
    """It says one, and may mean that anything is there."""


def numbers_kept(said: str, now: str) -> bool:
    """Tell whether a rewrite has every number of a prompt, and counts nothing otherwise."""
    asked, given = _numbers(said), _numbers(now)
    have = Counter(number.value for number in given if not number.article)
    if Counter(number.value for number in asked if number.firm) - have:
        return False
    counts: defaultdict[str, set[str]] = defaultdict(set)
    for number in given:
        for word in number.counted:
            counts[word].add(number.value)
    for number in asked:
        if number.article:
            continue  # "A wing" is no statement of how many there are.
        known = [counts[word] for word in _nouns(number) if word in counts]
        if known and not any(number.value in values for values in known):
            return False
    return True


def _nouns(number: _Number) -> tuple[str, ...]:
    """Return the words by which it is known again.

    Of a number that may go, the last word alone: one red rose is not counted by its red petals. Of
    Chinese both characters, since either may be its noun.
    """
    if number.firm or not number.counted or not number.counted[0].isascii():
        return number.counted
    return number.counted[-1:]


def _numbers(text: str) -> list[_Number]:
    plain = unicodedata.normalize("NFKC", text).casefold()
    if len(plain) > _MOST_GROWTH * len(text):
        plain = text.casefold()  # No digits grow so: ﷺ alone becomes 18 characters.
    tokens = [match[0] for match in _TOKEN.finditer(plain)]
    found: list[_Number] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token[0].isdecimal():
            number, at = _in_digits(tokens, at)
            found.append(number)
            continue
        said, at = _in_words(tokens, at)
        if said is not None:
            found.append(said)
            continue
        if token in _ARTICLES:
            found.append(_Number("1", firm=False, counted=_window(tokens, at), article=True))
        for match in _MEASURED.finditer(token):
            value = _value(match[1])
            counted = _chinese_words(token[match.end() : match.end() + _TAIL])
            found.append(_Number(value, firm=value != "1", counted=counted))
    return found


def _in_digits(tokens: list[str], at: int) -> tuple[_Number, int]:
    """Return the number that begins with these digits, and the token behind it."""
    value = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in tokens[at])
    if _THOUSANDS.fullmatch(value):
        value = re.sub(r"\D", "", value)
    value = value.replace(",", ".")
    at += 1
    behind = tokens[at] if at < len(tokens) else ""
    times = _LARGE.get(behind) or (_TIMES | _MYRIADS).get(behind[:1])
    if times is not None and value.isdecimal() and len(value) <= _LONGEST_DIGITS:
        value = str(int(value) * times)
        if behind in _LARGE:
            return _Number(value, firm=True, counted=_window(tokens, at + 1)), at + 1
        tokens[at] = behind = behind[1:] or "."
    # 1 cat may become a cat; the 1 on a shirt stays.
    if behind[:1] and behind[0] in _MEASURES:
        return _Number(value, value != "1", _chinese_words(behind[1 : 1 + _TAIL])), at
    counted = _window(tokens, at)
    return _Number(value, value != "1" or not counted, counted), at


def _in_words(tokens: list[str], start: int) -> tuple[_Number | None, int]:
    """Return the number that words say from here on, if they do, and the token behind it.

    Twenty-three is one number, as are treinta y dos and a hundred and five; "two, three" are two.
    """
    total, part, at, firm = 0, 0, start, False
    if tokens[at] in _ARTICLES and tokens[at + 1 : at + 2] and tokens[at + 1] in _LARGE:
        at += 1
    while at < len(tokens) and total < _LARGEST:
        token = tokens[at]
        step = 1
        if token in _CONNECTING and part and tokens[at + 1 : at + 2]:
            token, step = tokens[at + 1], 2
            if token not in _SMALL or (tokens[at] == "and" and part % _HUNDRED):
                break
        small = 1 if token == "one" else _SMALL.get(token)  # noqa: S105 - no password
        large = _LARGE.get(token)
        if small is not None and _goes_on(part, small):
            part += small
        elif large is not None and part < large:
            part = (part or 1) * large
            if large >= _THOUSAND:
                total, part = total + part, 0
        else:
            break
        firm = firm or token not in _DOUBTFUL
        at += step
    if not total + part:
        return None, start + 1
    return _Number(str(total + part), firm, _window(tokens, at)), at


def _goes_on(part: int, small: int) -> bool:
    """Tell whether a number of words up to here goes on with another below a hundred."""
    if part == 0:
        return True
    if part % _HUNDRED == 0:
        return small < _HUNDRED
    return part % _TEN == 0 and part % _HUNDRED > _TEN and small < _TEN


def _window(tokens: list[str], start: int) -> tuple[str, ...]:
    """Return the stems of the words behind a number, as far as it may count them."""
    found: list[str] = []
    for token in tokens[start : start + _WINDOW]:
        if not token[0].isalpha() or token in _ENDS or token in _SMALL or token in _ARTICLES:
            break
        if found and token.endswith("ing"):
            break  # What they are doing, and no word for them.
        found.append(_stem(token))
    return tuple(found)


def _stem(word: str) -> str:
    """Return a word without what its plural adds, in any of the languages at once."""
    word = _PLURALS.get(word, word)
    while len(word) > _SHORTEST_STEM and word[-1] in "aeinosy":
        word = word[:-1]
    return f"{word[:-1]}f" if word.endswith("v") else word


def _value(signs: str) -> str:
    if len(signs) > _MOST_SIGNS:
        return signs
    if all(sign in _SIGNS for sign in signs):
        return "".join(str(_SIGNS[sign]) for sign in signs)
    total = part = digit = 0
    for sign in signs:
        if sign in _SIGNS:
            digit = _SIGNS[sign]
        elif sign in _TIMES:
            part, digit = part + (digit or 1) * _TIMES[sign], 0
        else:
            total, part, digit = total + (part + digit or 1) * _MYRIADS[sign], 0, 0
    return str(total + part + digit)


def _chinese_words(behind: str) -> tuple[str, ...]:
    """Return the first and the last character of what is counted: its word is one of the two."""
    end = _NUMERAL_OR_END.search(behind)
    run = behind[: end.start() if end else len(behind)]
    run = run.rsplit("的", 1)[-1]
    return tuple(dict.fromkeys(c for c in (run[:1], run[-1:]) if c and c not in _ATTRIBUTES))
