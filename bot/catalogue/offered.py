"""The offered model that somebody means: by its full name, its short one, or words of it."""

from __future__ import annotations

from collections.abc import Sequence

from bot.catalogue.models import ModelSpec


def short_name(name: str) -> str:
    """Return what stands after the slash of a model's name: `Qwen-Image` of `Qwen/Qwen-Image`."""
    return name.rpartition("/")[2]


def named(models: Sequence[ModelSpec], name: str) -> ModelSpec | None:
    """Return the one of `models` with this full or short name, in any case; None: none or several.

    Programs are held to this: what a part of a name means changes with the models beside it.
    """
    wanted = name.strip().casefold()
    full = [spec for spec in models if spec.name.casefold() == wanted]
    short = [spec for spec in models if short_name(spec.name).casefold() == wanted]
    return _only(full or short)


def find_offered(models: Sequence[ModelSpec], text: str) -> ModelSpec | None:
    """Return the one of `models` that a person means by `text`; None where none or several match.

    The full or short name counts first, in any case and with spaces for hyphens, then the last
    words of a name (`2512` of `Qwen/Qwen-Image-2512`), then any words of one name alone.
    """
    wanted = "-".join(text.split()).casefold()
    if not wanted:
        return None
    if (found := named(models, wanted)) is not None:
        return found
    words = [(f"-{spec.name.replace('/', '-')}-".casefold(), spec) for spec in models]
    last = [spec for name, spec in words if name.endswith(f"-{wanted}-")]
    within = [spec for name, spec in words if f"-{wanted}-" in name]
    return _only(last or within)


def _only(found: Sequence[ModelSpec]) -> ModelSpec | None:
    return found[0] if len(found) == 1 else None
