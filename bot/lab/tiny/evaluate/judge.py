"""The verdicts on one picture: each fact that its caption states, right or wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from PIL import Image

from bot.lab.tiny.evaluate import forms, reading
from bot.lab.tiny.evaluate.pixels import Mask, View, bounds, filled, name_of

CATEGORIES: Final = (
    "colour", "background", "shape", "position", "count", "size", "text", "hanzi", "thing",
)  # fmt: skip
_MOST: Final = 0.6
"""Least share of a form's pixels that must have its colour."""
_PART: Final = 0.08
"""Least share of a thing's pixels in the colour that is named (windows and roofs have others)."""
_AREA: Final = 0.006
"""Least share of the picture that a form covers."""
_APART: Final = 0.2
"""Least distance of two centres, as a share of the picture, for one to be left of the other."""
_SIZES: Final = {"small": (0.15, 0.42), "big": (0.6, 1.0)}
"""Width or height of a form, the larger, as a share of the picture's shorter side."""
_CENTRED: Final = 0.15


def judge(facts: Mapping[str, Any], image: Image.Image) -> dict[str, bool]:
    """Return a verdict by category of `CATEGORIES`, for what the facts say and no other."""
    style = str(facts.get("style", "flat"))
    view = View.of(image, style)
    verdicts: dict[str, bool] = {}
    if "background" in facts:
        verdicts["background"] = _background(view, facts["background"], style)
    match facts["kind"]:
        case "text" | "hanzi":
            verdicts |= _text(view, facts)
        case "thing":
            verdicts |= _thing(view, facts["subjects"][0], style)
        case "relation":
            verdicts |= _relation(view, facts, style)
        case _:
            verdicts |= _shapes(view, facts, style)
    return verdicts


def _background(view: View, wanted: list[str], style: str) -> bool:
    rows = len(view.behind)
    band = max(1, rows // 12)
    if len(wanted) == 1:
        thirds = [view.behind[:band], view.behind[rows // 2 - band : rows // 2 + band]]
        return all(
            name_of(np.median(part, axis=0), style) == wanted[0]
            for part in (*thirds, view.behind[-band:])
        )
    ends = view.behind[:band], view.behind[-band:]
    return [name_of(np.median(end, axis=0), style) for end in ends] == wanted


def _share(view: View, mask: Mask, colour: str) -> float:
    return float((view.colour(colour) & mask).sum()) / max(1, int(mask.sum()))


def _core(view: View) -> Mask:
    """Return the foreground without its soft edges."""
    return view.foreground & (view.solidity > 0.8)  # noqa: PLR2004 - nearly all ink


def _text(view: View, facts: Mapping[str, Any]) -> dict[str, bool]:
    verdicts: dict[str, bool] = {}
    if "colour" in facts:
        verdicts["colour"] = _share(view, _core(view), facts["colour"]) >= _MOST
    text = str(facts["text"])
    if facts["kind"] == "hanzi":
        verdicts["hanzi"] = reading.read_chinese(view, len(text)) == text
    else:
        verdicts["text"] = reading.read_line(view, digits=text.isdigit()) == text
    return verdicts


def _thing(view: View, subject: Mapping[str, str], style: str) -> dict[str, bool]:
    verdicts = {"thing": forms.thing_of(view, style) == subject["form"]}
    if "colour" in subject:
        verdicts["colour"] = _share(view, view.foreground, subject["colour"]) >= _PART
    return verdicts


def _shapes(view: View, facts: Mapping[str, Any], style: str) -> dict[str, bool]:
    subject = facts["subjects"][0]
    find = forms.outlined if style == "outline" else forms.parts
    found = find(view.foreground)
    verdicts = {
        "shape": bool(found)
        and all(forms.shape_of(part, style) == subject["form"] for part in found)
    }
    if "colour" in subject:
        verdicts["colour"] = _share(view, _core(view), subject["colour"]) >= _MOST
    if facts["kind"] == "count":
        verdicts["count"] = len(found) == facts["count"]
    if "place" in facts:
        verdicts["position"] = bool(found) and _placed(found[0], facts["place"])
    if "size" in facts:
        verdicts["size"] = bool(found) and _sized(found[0], facts["size"])
    return verdicts


def _centre(mask: Mask) -> tuple[float, float]:
    left, top, right, bottom = bounds(mask)
    return (left + right) / 2 / mask.shape[1], (top + bottom) / 2 / mask.shape[0]


def _placed(mask: Mask, place: str) -> bool:
    x, y = _centre(mask)
    along, across = (x, y) if place in {"left", "right"} else (y, x)
    offset = 0.5 - along if place in {"left", "top"} else along - 0.5
    return offset > _APART / 2 and abs(across - 0.5) < _CENTRED


def _sized(mask: Mask, size: str) -> bool:
    left, top, right, bottom = bounds(mask)
    least, most = _SIZES[size]
    return least <= max(right - left, bottom - top) / min(mask.shape) <= most


def _relation(view: View, facts: Mapping[str, Any], style: str) -> dict[str, bool]:
    first, second = facts["subjects"]
    inside = facts["relation"] == "inside"
    masks = [_largest(view, one["colour"]) for one in (first, second)]
    present = all(mask is not None for mask in masks)
    verdicts = {"colour": present, "shape": False, "position": False}
    if not present:
        return verdicts
    one, other = (mask for mask in masks if mask is not None)
    whole = filled(other) if inside else other
    names = forms.shape_of(one, style), forms.shape_of(whole, style)
    verdicts["shape"] = names == (first["form"], second["form"])
    if inside:
        covered = float((whole & one).sum()) / float(one.sum())
        verdicts["position"] = covered > 0.9 and bool(one.sum() < whole.sum())  # noqa: PLR2004
        return verdicts
    (x, y), (other_x, other_y) = _centre(one), _centre(other)
    right, down = x - other_x, y - other_y
    offsets = {"left": -right, "right": right, "above": -down, "below": down}
    offset = offsets[facts["relation"]]
    aside = abs(down if facts["relation"] in {"left", "right"} else right)
    verdicts["position"] = offset > _APART and offset > aside
    return verdicts


def _largest(view: View, colour: str) -> Mask | None:
    """Return the largest part of the foreground in a colour, if it is large enough to be meant."""
    found = forms.parts(view.foreground & view.colour(colour))
    return found[0] if found and found[0].mean() >= _AREA else None
