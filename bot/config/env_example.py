"""The text of `.env.example`, made from the settings."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from bot.config.settings import Settings


def env_example() -> str:
    """Return the text of `.env.example`."""
    lines = ["# Copy this file to .env. Every line is optional except DISCORD_TOKEN."]
    for name, info in Settings.model_fields.items():
        default: Any = info.examples[0] if info.examples else info.default
        if default is None or default in (frozenset(), (), {}):
            shown = ""
        elif isinstance(default, Path):
            shown = default.as_posix()
        else:
            shown = f"{default:g}" if isinstance(default, float) else str(default)
        lines += ["", *textwrap.wrap(f"# {info.description}", 90, subsequent_indent="# ")]
        lines.append(f"{'' if name == 'discord_token' else '# '}{name.upper()}={shown}")
    return "\n".join(lines) + "\n"
