"""The setting IMAGE_LORAS: which LoRA files users may choose, and under what names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from bot.domain.request import LORA_NAME, LORA_STRENGTH_MAX

SUFFIX: Final = ".safetensors"
ALL, NONE = "*", "none"
_NAME_LIMIT: Final = 60
_ENTRY: Final = re.compile(
    r"(?:(?P<name>[^=:()`]+)=)?(?P<file>[^=:()]+)(?::(?P<strength>[^=:()]+))?"
    r"(?:\((?P<words>[^()]*)\))?"
)
_OUTSIDE: Final = re.compile(r",(?![^()]*\))")


@dataclass(frozen=True, slots=True)
class LoraChoice:
    """A LoRA that users may choose.

    `file` is its name without `.safetensors`; `words` are added to the prompt.
    """

    name: str
    file: str
    strength: float = 1.0
    words: str = ""


@dataclass(frozen=True, slots=True)
class LoraRules:
    """IMAGE_LORAS: the files that it names, and whether all others may be chosen too."""

    named: tuple[LoraChoice, ...] = ()
    others: bool = True

    @classmethod
    def parse(cls, text: str) -> LoraRules:
        """Read `NAME=FILE:STRENGTH (WORDS), …`; raise `ValueError` with a sentence."""
        text = text.strip()
        if text.casefold() == NONE:
            return cls(others=False)
        named: list[LoraChoice] = []
        others = False
        for number, part in enumerate(_OUTSIDE.split(text), 1):
            if part.strip() == ALL:
                others = True
            else:
                named.append(_choice(part.strip(), number))
        names = [choice.name.casefold() for choice in named]
        if len(set(names)) < len(names):
            raise ValueError("two of its entries have the same name")
        return cls(tuple(named), others)


def checked(text: str) -> str:
    """Return the setting as it stands; raise `ValueError` with a sentence for a wrong one."""
    LoraRules.parse(text)
    return text


def _choice(text: str, number: int) -> LoraChoice:
    match = _ENTRY.fullmatch(text)
    if match is None:
        raise ValueError(f"its entry {number} is not like NAME=FILE:STRENGTH (WORDS)")
    file = match["file"].strip().removesuffix(SUFFIX)
    if not LORA_NAME.fullmatch(file):
        raise ValueError(
            f"the file of its entry {number} must lie in IMAGE_LORA_PATH and have letters, "
            "digits, spaces, dots, - and _ only in its name"
        )
    name = " ".join((match["name"] or file).split())
    if match["name"] and len(name) > _NAME_LIMIT:
        raise ValueError(f"the name of its entry {number} is longer than {_NAME_LIMIT} characters")
    try:
        strength = float(match["strength"] or 1.0)
    except ValueError:
        raise ValueError(f"the strength of its entry {number} is no number") from None
    if not -LORA_STRENGTH_MAX <= strength <= LORA_STRENGTH_MAX:
        high = f"{LORA_STRENGTH_MAX:g}"
        raise ValueError(f"the strength of its entry {number} must be from -{high} to {high}")
    return LoraChoice(name, file, strength, " ".join((match["words"] or "").split()))
