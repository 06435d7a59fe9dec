"""The held-out prompts: never trained on, always the same, each with its seed and facts."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from bot.lab.tiny.train.scenes.captions import caption
from bot.lab.tiny.train.scenes.plan import Plan, draw_plan
from bot.lab.tiny.train.scenes.scene import facts_of, paint

_SEED: Final = 20250805
_SHARES: Final = {
    "shape": 22, "place": 9, "count": 16, "relation": 16, "text": 17, "hanzi": 12, "thing": 8,
}  # fmt: skip
"""Prompts of each kind in a hundred."""
_LETTERS: Final = 3
MOST: Final = 500


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt; `number` is its place in the list, and its picture's file name."""

    number: int
    caption: str
    seed: int
    facts: Mapping[str, Any]


def _wanted(plan: Plan) -> bool:
    """Three letters and single characters are what is judged of texts."""
    if plan.kind == "text":
        return len(plan.text) == _LETTERS and plan.text.isalpha()
    return plan.kind != "hanzi" or len(plan.text) == 1


def held_out_plans(count: int = MOST) -> list[tuple[Plan, Prompt]]:
    """Return the first `count` held-out plans and their prompts; kinds are mixed evenly."""
    rng = random.Random(_SEED)  # noqa: S311 - pictures, not secrets
    kinds = [kind for kind, share in _SHARES.items() for _ in range(share)]
    rng.shuffle(kinds)
    found: list[tuple[Plan, Prompt]] = []
    seen: set[str] = set()
    while len(found) < count:
        plan = draw_plan(rng, holdout=True, kind=kinds[len(found) % len(kinds)])
        text = caption(rng, plan)
        # A word is asked for once; characters and combinations, once in the same words.
        once = plan.text if plan.kind == "text" else text
        if not _wanted(plan) or once in seen:
            continue
        seen.add(once)
        number = len(found)
        found.append((plan, Prompt(number, text, _SEED + number, facts_of(plan))))
    return found


def held_out_prompts(count: int = MOST) -> list[Prompt]:
    """Return the first `count` held-out prompts."""
    return [prompt for _, prompt in held_out_plans(count)]


def rendered(count: int = MOST) -> list[tuple[Prompt, Image.Image]]:
    """Return the prompts with the renderer's own pictures: what a perfect model would draw."""
    return [
        (prompt, paint(random.Random(prompt.seed), plan))  # noqa: S311 - pictures, not secrets
        for plan, prompt in held_out_plans(count)
    ]


def write_prompts(path: Path, prompts: list[Prompt]) -> None:
    """Write prompts as JSON, for pictures made elsewhere."""
    text = json.dumps([asdict(one) for one in prompts], ensure_ascii=False, indent=1)
    path.write_text(text + "\n", encoding="utf-8")


def read_prompts(path: Path) -> list[Prompt]:
    """Read what `write_prompts` wrote."""
    return [Prompt(**one) for one in json.loads(path.read_text(encoding="utf-8"))]
