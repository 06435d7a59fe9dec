"""A text written by the networks of a streamed model, within its budget.

The transformer's blocks make room for the language model's layers, as far as both do not fit, and
come back when the text is done.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import torch

from bot.engine.child.backend import Reporter, WrittenText
from bot.engine.child.references import EDIT_SIZES, read_reference
from bot.engine.host_memory import RESERVE, available_memory
from bot.engine.models.refused_writing import no_eyes, no_room, no_writer, not_writing
from bot.engine.models.streamed_networks import Networks
from bot.engine.options import Activity
from bot.engine.protocol import WriteRequest
from bot.engine.stream.prompts_chat import AnswerText, read_question, stops_of
from bot.engine.stream.sampling import chooser
from bot.engine.stream.vision_picture import SeenPicture, vision_picture
from bot.engine.stream.writing import AnswerBounds, Question, StreamedWriter
from bot.errors import EngineError, EngineErrorKind

_AS_FOR: Final = (1024, 1024)
"""Pictures are looked at as beside a picture of this size, in pixels."""


def write_text(networks: Networks, request: WriteRequest, report: Reporter) -> WrittenText:
    """Write the answer to `request`, telling `report` of each token.

    Raises `EngineError`: `REFUSED` where what writes cannot be loaded, and for pictures where the
    model sees none or they are broken; `OUT_OF_MEMORY` where the budget has no room even for layers
    that are streamed.
    """
    networks.adapt()
    dit, embedder = networks.dit, networks.embedder
    dit.device.reset_peak()
    began = time.perf_counter()
    loading = _load_writer(networks, request, report)
    marks = [time.perf_counter()]
    writer = _writer(networks, request)
    sizes = networks.references(*_AS_FOR) if networks.references else EDIT_SIZES
    pictures: list[Any] = []
    for path in request.references:
        pictures.append(vision_picture(read_reference(path, sizes).seen))
        report.stage(Activity.ENCODE)  # a cancel is heard between pictures too
    try:
        seen = _seen(networks, pictures)
        question = read_question(embedder.tokenizer, request.system, request.prompt, seen)
        marks.append(time.perf_counter())
        _make_room(networks, writer, question, request)
        marks.append(time.perf_counter())
        report.stage(Activity.WRITE)
        text, tokens = AnswerText(embedder.tokenizer), 0

        def told(token: int) -> None:
            nonlocal tokens
            tokens += 1
            report.written(text.add(token), tokens)

        ending = writer.write(
            question,
            AnswerBounds(stops_of(embedder.tokenizer), request.max_tokens, request.seconds),
            chooser(request.temperature, request.seed),
            told,
        )
        if rest := text.end():
            report.written(rest, tokens)
        marks.append(time.perf_counter())
        peak = dit.device.peak()[0]
    finally:
        writer.rest()
        dit.residency.take_back()
    marks.append(time.perf_counter())
    encode, room, write, back = (after - before for before, after in pairwise(marks))
    timings = {"encode": encode, "room": room, "write": write, "back": back}
    if loading:  # As of a model: it serves all who write after.
        timings["load"] = marks[0] - began
    return WrittenText(ending, timings, peak or None, networks.card_use())


def _load_writer(networks: Networks, request: WriteRequest, report: Reporter) -> bool:
    """Have what writes in main memory, from the first text on; return whether that may be work.

    It is reported as a switch is, whose time is that of loading and none of the job's. Raises
    `EngineError` (`REFUSED`, not `LOAD_FAILED`) where it cannot be had: pictures are drawn without.
    """
    if networks.load_writer is None:
        return False
    report.stage(Activity.SWITCH)
    try:
        networks.load_writer(report.loading, bool(request.references))
    except EngineError as error:
        if error.kind is not EngineErrorKind.LOAD_FAILED:
            raise
        raise not_writing(error) from error
    report.stage(Activity.ENCODE)
    return True


def _writer(networks: Networks, request: WriteRequest) -> StreamedWriter:
    """Return what writes; raise `EngineError` (`REFUSED`) without it, or where it is to see."""
    embedder = networks.embedder
    if embedder.writer is None:
        raise no_writer(networks.device_name)
    if request.references and embedder.encoder.vision is None:
        raise no_eyes(networks.device_name, len(request.references))
    return embedder.writer


def _seen(networks: Networks, pictures: list[Any]) -> Sequence[SeenPicture]:
    """Have pictures looked at: several need more room than the plan left for one's prompt."""
    while pictures:
        try:
            return networks.embedder.seen(pictures)
        except torch.OutOfMemoryError:
            if not networks.dit.residency.give_way():
                raise
    return ()


def _make_room(
    networks: Networks, writer: StreamedWriter, question: Question, request: WriteRequest
) -> None:
    """Have the head and as many layers on the card as there is room for."""
    encoder, residency = writer.encoder, networks.dit.residency
    working = writer.working_bytes(len(question.ids), request.max_tokens)
    whole = working + encoder.geometry.layers * encoder.layout.size
    available = available_memory()
    copies = None if available is None else max(0, available - RESERVE)
    room = residency.lend(whole, copies)
    budget = networks.dit.settings.budget
    if room is not None and budget is not None and room < working:
        raise no_room(working, room, budget)
    writer.bring(room, working)
