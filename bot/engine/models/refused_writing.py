"""What is said where no text can be written."""

from __future__ import annotations

from bot.errors import EngineError, EngineErrorKind
from bot.words import mark

_GIB = 2**30


def no_writer(model: str) -> EngineError:
    """Return the refusal of a model that has nothing which writes as it is loaded."""
    sentence = mark("Texts are written with Qwen-Image's models and IMAGE_OFFLOAD=stream only.")
    return EngineError(EngineErrorKind.REFUSED, f"{model} does not write", sentence=sentence)


def no_eyes(model: str, count: int) -> EngineError:
    """Return the refusal of `count` pictures for a model that writes, but sees none."""
    sentence = mark("This model writes texts, but does not look at pictures.")
    detail = f"{count} pictures for the language model of {model}"
    return EngineError(EngineErrorKind.REFUSED, detail, sentence=sentence)


def not_writing(error: EngineError) -> EngineError:
    """Return the refusal where a model that draws cannot load what it writes with."""
    return EngineError(
        EngineErrorKind.REFUSED, error.detail, sentence=error.template, values=error.values
    )


def no_room(needed: int, room: int, budget: int) -> EngineError:
    """Return the refusal (`OUT_OF_MEMORY`) where writing has no room, sizes in bytes."""
    return EngineError(
        EngineErrorKind.OUT_OF_MEMORY,
        f"budget {budget}, writing takes {needed}, there are {room}",
        sentence=mark(
            "Writing a text needs about {needed} GiB of GPU memory and the budget is {budget} GiB; "
            "pictures are drawn as before."
        ),
        values={
            "needed": f"{(budget - room + needed) / _GIB:.1f}",
            "budget": f"{budget / _GIB:.1f}",
        },
    )
