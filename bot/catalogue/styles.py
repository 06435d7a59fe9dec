"""Styles: words that are added to a prompt, under a name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from bot.words import _, mark

NAME_LIMIT: Final = 40
TEXT_LIMIT: Final = 500
MOST_OWN: Final = 50


@dataclass(frozen=True, slots=True)
class Style:
    """A style: what it adds to the prompt and to the negative prompt."""

    name: str
    prompt: str
    negative: str = ""
    built_in: bool = False

    @property
    def title(self) -> str:
        """The name that a user sees."""
        return _(self.name) if self.built_in else self.name


BUILT_IN: Final = tuple(
    Style(name, prompt, negative, built_in=True)
    for name, prompt, negative in (
        (mark("photo"), "professional photograph, natural light, sharp focus", "drawing, painting"),
        (mark("cinematic"), "cinematic film still, dramatic lighting, shallow depth of field", ""),
        (mark("anime"), "anime illustration, clean lines, vivid colours", "photograph"),
        (mark("watercolour"), "watercolour painting, soft washes, paper texture", "photograph"),
        (mark("oil painting"), "oil painting, visible brush strokes, rich colours", "photograph"),
        (mark("ink"), "Chinese ink wash painting, expressive brushwork, white space", "photograph"),
        (mark("pixel art"), "pixel art, limited palette, crisp pixels", "blurry, photograph"),
        (mark("3d"), "3D render, global illumination, detailed materials", "flat, sketch"),
        (mark("poster"), "graphic poster design, bold typography, strong composition", "clutter"),
        (mark("line art"), "minimal black line art on white", "colour, shading"),
    )
)


def find_style(name: str, own: Iterable[Style] = ()) -> Style | None:
    """Return the style of that name, in any language for built-in ones; a server's own win."""
    wanted = name.strip().casefold()
    for style in (*own, *BUILT_IN):
        if wanted in {style.name.casefold(), style.title.casefold()}:
            return style
    return None


def offered_styles(own: Sequence[Style], chosen: str | None, room: int) -> list[Style]:
    """Return what a menu of `room` options has room for: the chosen one before other own ones."""
    first = [style for style in own if style.name == chosen]
    first += [style for style in own if style not in first]
    return [*first[: room - len(BUILT_IN)], *BUILT_IN]


def to_values(styles: Iterable[Style]) -> list[dict[str, str]]:
    """Return a server's own styles as JSON values."""
    return [{"name": s.name, "prompt": s.prompt, "negative": s.negative} for s in styles]


def from_values(values: Any) -> tuple[Style, ...]:
    """Read what `to_values` wrote; what another version wrote differently is left out."""
    if not isinstance(values, list):
        return ()
    found: list[Style] = []
    for value in cast("list[Any]", values):
        row = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        name, prompt, negative = (str(row.get(key) or "") for key in ("name", "prompt", "negative"))
        if name and (prompt or negative):
            found.append(Style(name, prompt, negative))
    return tuple(found)
