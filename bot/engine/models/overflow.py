"""What is said where a model's arithmetic overflowed, so that there is no picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

_FAST = "fp8-fast"


def overflowed(precision: str, loras: Sequence[tuple[str, float]] = ()) -> EngineError:
    """Return the error, which names the LoRAs (name and strength) where some were in use.

    It is `REFUSED`: the same numbers come out again here, but another engine may do better.
    """
    names = ", ".join(name for name, _strength in loras)
    if loras:
        sentence = mark(
            "With the LoRA {name} the model's numbers overflow, so there is no picture; a lower "
            "strength may help."
        )
    elif precision == _FAST:
        sentence = mark(
            "The model's numbers overflowed, so there is no picture: IMAGE_PRECISION=fp8 is more "
            "exact than fp8-fast."
        )
    else:
        sentence = mark("The model's numbers overflowed, so there is no picture.")
    detail = f"numbers that are not finite, with {precision} and the LoRAs {names or '-'}"
    values = {"name": names} if names else {}
    return EngineError(EngineErrorKind.REFUSED, detail, sentence=sentence, values=values)


def watch_output(pipe: Any, precision: str) -> None:
    """Let DiffSynth's pipeline raise `overflowed` where its VAE gives no numbers."""
    stock = pipe.vae_output_to_image

    def checked(vae_output: Any, *options: Any, **named: Any) -> Any:
        if not bool(vae_output.isfinite().all()):
            raise overflowed(precision)
        return stock(vae_output, *options, **named)

    pipe.vae_output_to_image = checked
