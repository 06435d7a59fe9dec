"""The check of how weights are multiplied: what IMAGE_PRECISION=auto chose, or is still to try."""

from __future__ import annotations

from collections.abc import Iterator

from bot.config.settings import Settings
from bot.doctor.finding import Finding, Level
from bot.engine.files.find import AUTO, COMPILED_FOLDER, as_stored
from bot.engine.files.precision_kept import KEPT, kept_choices

_STEP = "none needed; the next start tries them, which takes seconds"


def precision(settings: Settings) -> Iterator[Finding]:
    """Tell what is set, and what was measured on each card that engines have seen."""
    name, asked = "precision", settings.image_precision
    streamed = [spec for spec in settings.models if spec.streamed and not spec.built_in]
    if asked != AUTO or settings.image_offload != "stream" or not streamed:
        yield Finding(name, Level.OK, f"IMAGE_PRECISION={asked}")
        return
    root = settings.image_model_path
    for spec in streamed:
        if as_stored(root, spec.name, asked) == "fp8":
            yield Finding(
                name,
                Level.WARNING,
                f"auto: {spec.name} goes on in fp8, since FP8's weights cache is all that is left "
                "of its files",
                f"for INT8, nearer to the model: python -m bot download {spec.name} with "
                "IMAGE_PRECISION=int8",
            )
    try:
        for card, chosen, times in kept_choices(root / COMPILED_FOLDER):
            text = f"auto: {chosen} on {card}, where int8-fast is {times:.1f} times as fast as int8"
            yield Finding(name, Level.OK, text)
    except FileNotFoundError:
        yield Finding(name, Level.OK, "auto: int8 or int8-fast, not tried on a card yet")
    except (OSError, ValueError):
        text = f"auto: {root / COMPILED_FOLDER / KEPT} cannot be read"
        yield Finding(name, Level.WARNING, text, _STEP)
