"""Letters, digits and Chinese characters, in fonts of Debian packages."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from PIL import ImageFont

from bot.lab.tiny.train.scenes.canvas import Canvas
from bot.lab.tiny.train.scenes.palette import Rgb

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Face:
    """A font file: where it comes from, and how captions call it (empty: not named)."""

    file: str
    package: str
    licence: str
    index: int = 0
    english: str = ""
    chinese: str = ""


# Version 1, in Debian 12; version 2, in later ones, is under the OFL 1.1.
_LIBERATION: Final = "GPL 2 with font exception"

LATIN: Final[dict[str, Face]] = {
    "sans": Face("DejaVuSans-Bold.ttf", "fonts-dejavu-core", "Bitstream Vera"),
    "plain": Face("LiberationSans-Bold.ttf", "fonts-liberation", _LIBERATION, 0, "plain", "黑体"),
    "serif": Face("LiberationSerif-Bold.ttf", "fonts-liberation", _LIBERATION, 0, "serif", "衬线"),
    "slab": Face(
        "DejaVuSerif-Bold.ttf", "fonts-dejavu-core", "Bitstream Vera", 0, "slab", "粗衬线"
    ),
    "mono": Face(
        "DejaVuSansMono-Bold.ttf", "fonts-dejavu-core", "Bitstream Vera", 0, "mono", "等宽"
    ),
}
CHINESE: Final[dict[str, Face]] = {
    "hei": Face("NotoSansCJK-Bold.ttc", "fonts-noto-cjk", "OFL 1.1", 2),
    "song": Face("NotoSerifCJK-Bold.ttc", "fonts-noto-cjk", "OFL 1.1", 2, "serif", "宋体"),
}
FACES: Final[dict[str, Face]] = LATIN | CHINESE

WORDS: Final = (
    "HELLO", "LOVE", "CAT", "DOG", "SUN", "MOON", "STAR", "FISH", "BIRD", "TREE", "HOME", "OPEN",
    "STOP", "GO", "YES", "NO", "HI", "OK", "BOT", "ART", "WOW", "CAFE", "TEA", "SKY", "SEA",
    "RED", "BLUE", "GREEN", "HAPPY", "WORLD", "MUSIC", "GAME", "PLAY", "COOL", "NICE", "DREAM",
    "MAGIC", "PIXEL", "ROBOT", "QWEN", "IMAGE", "PAINT", "SALE", "EXIT", "ZOO", "CAR", "BUS",
    "JAZZ", "FOX", "BEE", "OWL", "PIZZA", "APPLE", "LEMON", "SUMMER", "WINTER",
)  # fmt: skip
HANZI: Final = (
    "日月水火木土山川田人口手心大小中上下天风云雨雪花草虫鱼鸟马牛羊龙猫春夏秋冬东西南北你好我爱福"
)
PAIRS: Final = (
    "你好", "山水", "日月", "风云", "花草", "东西", "南北", "大山", "小鱼", "春天", "夏天", "秋天",
    "冬天", "火山", "雪山", "下雨", "小猫", "小鸟", "大马", "水牛", "中心", "人口", "天下", "上山",
    "我爱", "爱心", "大福", "雨水", "云雨", "好人", "山羊", "木马", "田土", "大风", "小心",
)  # fmt: skip
LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS: Final = "0123456789"

_GAP: Final = 0.12  # between two letters' ink, in em
_MEASURED_AT: Final = 100


class FontMissingError(RuntimeError):
    """A font file was not found; says which Debian package has it."""


def _folders() -> list[Path]:
    """Return fontconfig's usual folders (XDG base directories and the system's)."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return [Path(home) / "fonts", Path("/usr/local/share/fonts"), Path("/usr/share/fonts")]


@lru_cache
def font_path(name: str) -> str:
    """Return where the file of a face is; `FontMissingError` names the package to install."""
    face = FACES[name]
    for folder in _folders():
        for path in sorted(folder.rglob(face.file)):
            return str(path)
    raise FontMissingError(f"{face.file} not found: install the Debian package {face.package}.")


@lru_cache(maxsize=512)
def font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a face at `size` pixels to the em."""
    return ImageFont.truetype(font_path(name), size, index=FACES[name].index)


def _ink(face: ImageFont.FreeTypeFont, character: str) -> Box:
    """Return the box of a character's ink; `getbbox` would count its advance too."""
    mask, (left, top) = face.getmask2(character)
    box = mask.getbbox()
    assert box is not None, f"{character!r} has no ink"
    return left + box[0], top + box[1], left + box[2], top + box[3]


@lru_cache(maxsize=65536)
def _layout(name: str, text: str) -> tuple[tuple[float, ...], Box]:
    """Return where each character starts, and the box of all ink, in em; letters don't touch."""
    face = font(name, _MEASURED_AT)
    starts: list[float] = []
    boxes: list[Box] = []
    x = 0.0
    for character in text:
        left, top, right, bottom = _ink(face, character)
        starts.append((x - left) / _MEASURED_AT)
        boxes.append((x, top, x + right - left, bottom))
        x += right - left + _GAP * _MEASURED_AT
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    box = min(lefts), min(tops), max(rights), max(bottoms)
    left, top, right, bottom = (value / _MEASURED_AT for value in box)
    return tuple(starts), (left, top, right, bottom)


def write(
    canvas: Canvas, face: str, text: str, x: float, y: float, width: float, height: float, rgb: Rgb
) -> None:
    """Write text with the middle of its ink at (x, y), as large as width x height pixels allow."""
    starts, (left, top, right, bottom) = _layout(face, text)
    em = min(width / (right - left), height / (bottom - top))
    for character, start in zip(text, starts, strict=True):
        at = x + (start - (left + right) / 2) * em, y - (top + bottom) / 2 * em
        canvas.character(at, character, partial(font, face), em, rgb)
