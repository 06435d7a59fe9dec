"""The pictures of an edit, read for a model, or refused where it takes none or fewer."""

from __future__ import annotations

from bot.catalogue.models import ModelSpec
from bot.engine.child.references import Reference, SizesOf, read_reference
from bot.engine.protocol import EngineRequest
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark


def read_references(
    request: EngineRequest, spec: ModelSpec, sizes: SizesOf | None, drawn: tuple[int, int]
) -> list[Reference]:
    """Return the references of `request` in the `sizes` that the model's networks see them in.

    `drawn` is the width and height in pixels of what is drawn.

    Raises `EngineError` (`REFUSED`) where the model takes none or fewer, and as `read_reference`
    does.
    """
    refuse_untaken(request, spec, streamed=True)
    if sizes is None:
        return []
    return [read_reference(path, sizes(*drawn)) for path in request.references]


def refuse_untaken(request: EngineRequest, spec: ModelSpec, *, streamed: bool) -> None:
    """Refuse references that the model does not take, or that are more than it takes.

    `streamed` tells whether the streaming engine draws it: DiffSynth's pipelines give pictures the
    positions of text with transformers 5. Raises `EngineError` (`REFUSED`).
    """
    count = len(request.references)
    if count == 0 or (streamed and count <= spec.references):
        return
    if spec.references == 0:
        sentence = mark("This model draws; it does not edit pictures by words.")
    elif not streamed:
        sentence = mark("Pictures are edited by words with IMAGE_OFFLOAD=stream only.")
    else:
        sentence = mark("This model takes {most} pictures for an edit at most, and {count} came.")
    raise EngineError(
        EngineErrorKind.REFUSED,
        f"{count} references for {spec.name}",
        sentence=sentence,
        values={"most": str(spec.references), "count": str(count)},
    )
