"""Instructions: a change in varied English and Chinese, as people type them."""

from __future__ import annotations

import random
from typing import Final

from bot.lab.tiny.train.scenes.edits import Change
from bot.lab.tiny.train.scenes.layout import Part
from bot.lab.tiny.train.scenes.letters import CHINESE
from bot.lab.tiny.train.scenes.palette import COLOURS
from bot.lab.tiny.train.scenes.plan import chance
from bot.lab.tiny.train.scenes.shapes import SHAPES
from bot.lab.tiny.train.scenes.things import THINGS

_CHINESE_SHARE: Final = 0.34
_PLACES: Final = {
    "left": ("the left", "左边"),
    "right": ("the right", "右边"),
    "top": ("the top", "上方"),
    "bottom": ("the bottom", "下方"),
    "centre": ("the center", "中间"),
    "top left": ("the top left", "左上角"),
    "top right": ("the top right", "右上角"),
    "bottom left": ("the bottom left", "左下角"),
    "bottom right": ("the bottom right", "右下角"),
}


def _tone(rng: random.Random, name: str, *, chinese: bool = False) -> str:
    names = COLOURS[name].chinese if chinese else COLOURS[name].english
    return names[0] if chance(rng, 0.9) else rng.choice(names)


def _noun(rng: random.Random, form: str, *, chinese: bool = False) -> str:
    if form in THINGS:
        return THINGS[form].chinese if chinese else THINGS[form].english
    if chinese:
        names = SHAPES[form].chinese
        return names[0] if chance(rng, 0.85) else rng.choice(names)
    pairs = SHAPES[form].english
    return (pairs[0] if chance(rng, 0.85) else rng.choice(pairs))[0]


def _named(rng: random.Random, part: Part, *, share: float = 0.4) -> str:
    noun = _noun(rng, part.form)
    return f"{_tone(rng, part.colour)} {noun}" if chance(rng, share) else noun


def _named_zh(rng: random.Random, part: Part, *, share: float = 0.4) -> str:
    noun = _noun(rng, part.form, chinese=True)
    return f"{_tone(rng, part.colour, chinese=True)}{noun}" if chance(rng, share) else noun


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _quoted(rng: random.Random, text: str) -> str:
    return f'"{text}"' if chance(rng, 0.4) else text


def _english(rng: random.Random, change: Change) -> str:
    old, new = change.old, change.new
    match change.kind:
        case "recolour":
            assert old is not None
            assert new is not None
            it, tone = _named(rng, old), _tone(rng, new.colour)
            ways = (
                f"make the {it} {tone}", f"turn the {it} {tone}", f"paint the {it} {tone}",
                f"change the color of the {it} to {tone}", f"the {it} should be {tone}",
                f"recolor the {it} {tone}", f"change the {it} to {tone}", f"{tone} {it}",
            )  # fmt: skip
        case "background" | "background of":
            if change.kind == "background of":
                assert old is not None
                it = _named(rng, old)
                ways = (
                    f"the {it} of picture 1 on the background of picture 2",
                    "put picture 1 on the background of picture 2",
                    "use the background color of picture 2 in picture 1",
                )
            else:
                tones = [_tone(rng, name) for name in change.target.ground]
                to = tones[0] if len(tones) == 1 else f"a {tones[0]} to {tones[1]} gradient"
                ways = (
                    f"make the background {to}", f"change the background to {to}",
                    f"{to} background", f"put it on a {to} background",
                    f"turn the background {to}", f"set the background to {to}",
                )  # fmt: skip
        case "add":
            assert new is not None
            it, place = _a(_named(rng, new, share=1.0)), _PLACES[change.place][0]
            at = "on" if change.place in {"left", "right"} else "at"
            at = "in" if " " in change.place or change.place == "centre" else at
            ways = (
                f"add {it} {at} {place}", f"put {it} {at} {place}", f"draw {it} {at} {place}",
                f"add {it} to {place}", f"place {it} {at} {place}",
            )  # fmt: skip
        case "remove":
            assert old is not None
            it = _named(rng, old)
            ways = (
                f"remove the {it}", f"delete the {it}", f"take away the {it}",
                f"get rid of the {it}", f"erase the {it}", f"no {it}",
            )  # fmt: skip
        case "replace":
            assert old is not None
            assert new is not None
            it = _named(rng, old)
            other = _a(_named(rng, new, share=0.3 if new.colour == old.colour else 1.0))
            ways = (
                f"replace the {it} with {other}", f"turn the {it} into {other}",
                f"change the {it} to {other}", f"swap the {it} for {other}",
                f"make the {it} {other}",
            )  # fmt: skip
        case "move":
            assert old is not None
            it, place = _named(rng, old), _PLACES[change.place][0]
            ways = (
                f"move the {it} to {place}", f"put the {it} in {place}",
                f"shift the {it} to {place}", f"place the {it} at {place}",
            )  # fmt: skip
        case "resize":
            assert old is not None
            it, bigger = _named(rng, old), change.place == "bigger"
            ways = (
                (f"make the {it} bigger", f"enlarge the {it}", f"a bigger {it}",
                 f"make the {it} larger")
                if bigger
                else (f"make the {it} smaller", f"shrink the {it}", f"a smaller {it}")
            )  # fmt: skip
        case "word":
            assert old is not None
            assert new is not None
            text, before = _quoted(rng, new.text), _quoted(rng, old.text)
            what = "character" if new.face in CHINESE else rng.choice(("word", "text"))
            ways = (
                f"change the {what} to {text}", f"replace {before} with {text}",
                f"make it say {text}", f"change {before} to {text}",
                f"the {what} should be {text}", f"write {text} instead",
            )  # fmt: skip
        case _:
            assert old is not None
            it = "shape" if chance(rng, 0.5) and old.form in SHAPES else _noun(rng, old.form)
            ways = (
                f"the {it} of picture 1 in the color of picture 2",
                f"make the {it} of picture 1 the color of picture 2",
                f"color the {it} in picture 1 like picture 2",
            )
    return rng.choice(ways)


def _chinese(rng: random.Random, change: Change) -> str:
    old, new = change.old, change.new
    match change.kind:
        case "recolour":
            assert old is not None
            assert new is not None
            it, tone = _named_zh(rng, old), _tone(rng, new.colour, chinese=True)
            ways = (
                f"把{it}变成{tone}", f"把{it}改成{tone}", f"将{it}涂成{tone}",
                f"{it}改为{tone}", f"把{it}的颜色换成{tone}",
            )  # fmt: skip
        case "background" | "background of":
            if change.kind == "background of":
                ways = ("把图1放在图2的背景上", "图1用图2的背景色", "把图1的背景换成图2的背景")
            else:
                tones = [_tone(rng, name, chinese=True) for name in change.target.ground]
                to = tones[0] if len(tones) == 1 else f"{tones[0]}到{tones[1]}渐变"
                ways = (
                    f"把背景换成{to}", f"把背景改成{to}", f"背景变成{to}", f"换成{to}背景",
                    f"将背景改为{to}",
                )  # fmt: skip
        case "add":
            assert new is not None
            measure = (THINGS.get(new.form) or SHAPES[new.form]).measure
            it, place = _named_zh(rng, new, share=1.0), _PLACES[change.place][1]
            ways = (
                f"在{place}加一{measure}{it}", f"{place}添加一{measure}{it}",
                f"在{place}画一{measure}{it}", f"在{place}放一{measure}{it}",
            )  # fmt: skip
        case "remove":
            assert old is not None
            it = _named_zh(rng, old)
            ways = (f"去掉{it}", f"删除{it}", f"把{it}去掉", f"移除{it}", f"不要{it}")
        case "replace":
            assert old is not None
            assert new is not None
            it = _named_zh(rng, old)
            other = _named_zh(rng, new, share=0.3 if new.colour == old.colour else 1.0)
            ways = (f"把{it}换成{other}", f"将{it}替换为{other}", f"用{other}代替{it}")
        case "move":
            assert old is not None
            it, place = _named_zh(rng, old), _PLACES[change.place][1]
            ways = (f"把{it}移到{place}", f"将{it}移动到{place}", f"把{it}放到{place}")
        case "resize":
            assert old is not None
            it, how = _named_zh(rng, old), "大" if change.place == "bigger" else "小"
            ways = (
                f"把{it}变{how}",
                f"让{it}{how}一点",
                f"把{it}{'放' if how == '大' else '缩'}{how}",
            )
        case "word":
            assert old is not None
            assert new is not None
            text = f"“{new.text}”" if chance(rng, 0.4) else new.text
            ways = (
                f"把文字改成{text}", f"把{old.text}换成{text}", f"文字改为{text}",
                f"把字换成{text}",
            )  # fmt: skip
        case _:
            assert old is not None
            it = "形状" if chance(rng, 0.5) else _noun(rng, old.form, chinese=True)
            ways = (f"图1的{it}用图2的颜色", f"把图1的{it}变成图2的颜色")
    return rng.choice(ways)


def instruction(rng: random.Random, change: Change) -> str:
    """Return one phrasing of a change."""
    return _chinese(rng, change) if chance(rng, _CHINESE_SHARE) else _english(rng, change)
