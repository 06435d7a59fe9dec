"""Command lines of plans: one option a field."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

_Plan = TypeVar("_Plan")


def parse(
    plan: type[_Plan],
    arguments: list[str],
    name: str,
    description: str | None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> _Plan:
    """Return the plan that the command line called `name` asks for: one option a field of `plan`.

    `choices` are the values that a field may have.
    """
    parser = argparse.ArgumentParser(name, description=description)
    hints: dict[str, Any] = get_type_hints(plan)
    for field in fields(plan):  # pyright: ignore[reportArgumentType] - a dataclass
        option = f"--{field.name.replace('_', '-')}"
        kind = hints[field.name]
        if field.default is MISSING:
            parser.add_argument(option, type=kind, required=True)
        elif choices and field.name in choices:
            parser.add_argument(option, choices=choices[field.name], default=field.default)
        elif kind is bool:
            parser.add_argument(
                option, action=argparse.BooleanOptionalAction, default=field.default
            )
        else:
            plain = kind if kind in (int, float, str) else Path
            parser.add_argument(option, type=plain, default=field.default)
    return plan(**vars(parser.parse_args(arguments)))
