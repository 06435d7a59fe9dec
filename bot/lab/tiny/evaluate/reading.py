"""Letters, digits and Chinese characters, read by matching the renderer's own fonts."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from bot.lab.tiny.evaluate.pixels import Floats, Mask, View, bounds, components, crop, likeness
from bot.lab.tiny.train.scenes.letters import CHINESE, DIGITS, HANZI, LATIN, LETTERS, PAIRS, font

_EM: Final = 120
_GREY: Final = 127
_GLYPH: Final = 32
_HANZI: Final = 48
_LIKE: Final = 0.55
_UNREAD: Final = "?"
_HALF: Final = 0.5
_CONTRAST: Final = 0.1
_OF_ASPECT: Final = 0.3
"""Weight of a difference in (the logarithm of) width to height."""
_TOUCHING: Final = 1.4
"""Wider than high by this much, a part is two letters that touch."""
_SPECK: Final = 0.06
"""Parts below this share of the largest belong to no letter."""
_SHARED: Final = 0.5
"""Parts that share this much of their width belong to one letter."""


def _drawn(face: str, text: str) -> Mask:
    left, top, right, bottom = font(face, _EM).getbbox(text)
    image = Image.new("L", (round(right - left) + 8, round(bottom - top) + 8))
    ImageDraw.Draw(image).text((4 - left, 4 - top), text, font=font(face, _EM), fill=255)
    return np.asarray(image) > _GREY


@lru_cache
def _glyphs(characters: str) -> list[tuple[str, Floats, float]]:
    """Return each character in each face: crop, and its width as a share of its height."""
    found: list[tuple[str, Floats, float]] = []
    for face in LATIN:
        for character in characters:
            mask = _drawn(face, character)
            left, top, right, bottom = bounds(mask)
            aspect = (right - left) / (bottom - top)
            found.append((character, crop(mask, _GLYPH, stretched=True), aspect))
    return found


def _letter(solidity: Floats, mask: Mask, characters: str) -> str:
    left, top, right, bottom = bounds(mask)
    aspect = (right - left) / (bottom - top)
    picture = crop(solidity, _GLYPH, stretched=True, mask=mask)
    best, found = _LIKE, _UNREAD
    for character, glyph, width in _glyphs(characters):
        # "I" fills its box: a crop without any contrast is compared by its differences.
        flat = min(float(glyph.std()), float(picture.std())) < _CONTRAST
        score = 1 - float(abs(picture - glyph).mean()) if flat else likeness(picture, glyph)
        score -= _OF_ASPECT * abs(math.log(aspect / width))
        if score > best:
            best, found = score, character
    return found


def _apart(part: Mask) -> list[Mask]:
    """Cut a part where it is thinnest, if it is too wide to be one letter."""
    left, top, right, bottom = bounds(part)
    if right - left < _TOUCHING * (bottom - top):
        return [part]
    third = (right - left) // 3
    ink = part[:, left + third : right - third].sum(axis=0)
    bridge = left + third + np.flatnonzero(ink == ink.min())  # belongs to neither letter
    before, after = part.copy(), part.copy()
    before[:, bridge[0] :] = False
    after[:, : bridge[-1] + 1] = False
    return [half for half in (before, after) if half.any()]


def _columns(mask: Mask) -> list[Mask]:
    """Return the letters of one line from left to right, parts above one another joined."""
    found = components(mask)
    floor = _SPECK * float(found[0].sum()) if found else 0.0
    letters: list[Mask] = []
    kept = [part for part in found if part.sum() >= floor]
    for part in sorted(kept, key=lambda part: bounds(part)[0]):
        left, _, right, _ = bounds(part)
        if letters:
            before_left, _, before_right, _ = bounds(letters[-1])
            shared = min(right, before_right) - max(left, before_left)
            if shared > _SHARED * min(right - left, before_right - before_left):
                letters[-1] = letters[-1] | part
                continue
        letters.append(part)
    return letters


def read_line(view: View, *, digits: bool) -> str:
    """Return the letters (or digits) of a picture from left to right, `?` for what is not one."""
    if not view.foreground.any():
        return ""
    solidity = view.solidity
    strong = view.foreground & (solidity > _HALF)
    characters = DIGITS if digits else LETTERS
    return "".join(_letters(solidity, part, characters) for part in _columns(strong))


def _letters(solidity: Floats, part: Mask, characters: str) -> str:
    """Read a part as one letter or, where it is not one and is wide, as letters that touch."""
    one = _letter(np.where(part, solidity, 0), part, characters)
    halves = _apart(part) if one == _UNREAD else [part]
    if len(halves) == 1:
        return one
    return "".join(_letters(solidity, half, characters) for half in halves)


@lru_cache
def _chinese_templates(length: int) -> list[tuple[str, Floats]]:
    texts = tuple(HANZI) if length == 1 else PAIRS
    return [
        (text, crop(_drawn(face, text), _HANZI, stretched=False))
        for text in texts
        for face in CHINESE
    ]


def read_chinese(view: View, length: int) -> str:
    """Return the Chinese character (or pair) that a picture is most like."""
    strong = view.foreground & (view.solidity > _HALF)
    if not strong.any():
        return ""
    picture = crop(view.solidity, _HANZI, stretched=False, mask=strong)
    score, text = max((likeness(picture, one), text) for text, one in _chinese_templates(length))
    return text if score >= _LIKE else _UNREAD
