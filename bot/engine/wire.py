"""The wire format: requests, events and failures as the headers of frames."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bot.engine.frames import Frame, FrameError
from bot.engine.protocol import (
    CardUse,
    Ending,
    EngineRequest,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Request,
    Step,
    Switched,
    WriteRequest,
    Written,
)
from bot.errors import EngineError, EngineErrorKind

GENERATE, WRITE = "generate", "write"
"""Types of the messages that ask for a job."""
TYPED: Final = ("prompt", "negative_prompt", "system")
"""Fields of theirs that no log may have."""
_TEXT_LIMIT: Final = 200
_DETAIL_LENGTH: Final = 500
_SENTENCE_LENGTH: Final = 300
# Far above any time in seconds or size in bytes, and within SQLite's integers.
_AMOUNT_LIMIT: Final = 2.0**62


def request_fields(request: EngineRequest) -> dict[str, Any]:
    """Return the fields of the `generate` message for `request`."""
    return {
        "job": request.job_id,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.steps,
        "guidance": request.guidance,
        "seeds": list(request.seeds),
        "output_dir": str(request.output_dir),
        "texts": [dict(texts) for texts in request.texts],
        "input_image": None if request.input_image is None else str(request.input_image),
        "strength": request.strength,
        "loras": [list(lora) for lora in request.loras],
        "shift": request.shift,
        "cfg_norm": request.cfg_norm,
        "reuse": request.reuse,
        "mask": None if request.mask is None else str(request.mask),
        "mask_inverted": request.mask_inverted,
        "place": None if request.place is None else list(request.place),
        "references": [str(path) for path in request.references],
        "transparent": request.transparent,
        "model": request.model,
    }


def write_fields(request: WriteRequest) -> dict[str, Any]:
    """Return the fields of the `write` message for `request`."""
    return {
        "job": request.job_id,
        "system": request.system,
        "prompt": request.prompt,
        "references": [str(path) for path in request.references],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
        "seconds": request.seconds,
        "model": request.model,
    }


def message_of(request: Request) -> tuple[str, dict[str, Any]]:
    """Return the type and the fields of the message that asks for `request`."""
    if isinstance(request, WriteRequest):
        return WRITE, write_fields(request)
    return GENERATE, request_fields(request)


def read_write_request(header: Mapping[str, Any]) -> WriteRequest:
    """Read what `write_fields` wrote; raise `FrameError` for what is out of range."""
    seconds = header["seconds"]
    try:
        return WriteRequest(
            job_id=header["job"],
            system=header["system"],
            prompt=header["prompt"],
            references=tuple(map(Path, header["references"])),
            max_tokens=int(header["max_tokens"]),
            temperature=float(header["temperature"]),
            seed=int(header["seed"]),
            seconds=None if seconds is None else _amount(seconds),
            model=header["model"],
        )
    except ValueError as error:
        raise FrameError(f"the request has {error}") from error


def read_request(header: Mapping[str, Any]) -> EngineRequest:
    """Read what `request_fields` wrote; raise `FrameError` for what contradicts itself."""
    try:
        return _request(header)
    except ValueError as error:
        raise FrameError(f"the request has {error}") from error


def _request(header: Mapping[str, Any]) -> EngineRequest:
    return EngineRequest(
        job_id=header["job"],
        prompt=header["prompt"],
        negative_prompt=header["negative_prompt"],
        width=header["width"],
        height=header["height"],
        steps=header["steps"],
        guidance=header["guidance"],
        seeds=tuple(header["seeds"]),
        output_dir=Path(header["output_dir"]),
        texts=tuple(header["texts"]),
        input_image=None if header["input_image"] is None else Path(header["input_image"]),
        strength=header["strength"],
        loras=tuple((name, strength) for name, strength in header["loras"]),
        shift=_shift(header["shift"]),
        cfg_norm=header["cfg_norm"] is True,
        reuse=float(header["reuse"]),
        mask=None if header["mask"] is None else Path(header["mask"]),
        mask_inverted=header["mask_inverted"] is True,
        place=None if header["place"] is None else _place(header["place"]),
        references=tuple(map(Path, header["references"])),
        transparent=header["transparent"] is True,
        model=header["model"],
    )


def read_event(frame: Frame) -> Event:
    """Turn a message of the child into an event; raise `FrameError` if it is not one."""
    header = frame.header
    try:
        match frame.type:
            case "loading":
                fraction = header.get("fraction")
                share = None if fraction is None else min(1.0, _amount(fraction))
                return Loading(str(header["stage"])[:_TEXT_LIMIT], share)
            case "loaded":
                return Loaded(
                    str(header["model"])[:_TEXT_LIMIT],
                    str(header["device"])[:_TEXT_LIMIT],
                    _amount(header["seconds"]),
                    _amount(header["imports_s"]),
                    _card_use(header.get("card_use")),
                )
            case "switched":
                model = header["model"]
                return Switched(
                    None if model is None else str(model)[:_TEXT_LIMIT], _amount(header["seconds"])
                )
            case "step":
                index, total = int(header["index"]), int(header["total"])
                if not 1 <= index <= total:  # a progress bar of any length would be drawn
                    raise FrameError("the child counts its steps wrongly")
                return Step(index, total)
            case "preview":
                return Preview(int(header["step"]), frame.tail)
            case "picture":
                return Picture(
                    int(header["index"]),
                    Path(header["path"]),
                    int(header["seed"]),
                    int(header["width"]),
                    int(header["height"]),
                )
            case "written":
                return Written(str(header["text"]), int(header["tokens"]))
            case "finished":
                ending = header.get("ending")
                timings = {str(k): _amount(v) for k, v in dict(header["timings"]).items()}
                peak = header["peak_gpu_bytes"]
                return Finished(
                    timings,
                    None if peak is None else int(_amount(peak)),
                    _card_use(header.get("card_use")),
                    None if ending is None else Ending(ending),
                )
            case other:
                raise FrameError(f"the child sent a message of type {other[:40]!r}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise FrameError(f"the child's {frame.type[:40]!r} message lacks a field") from error


def read_failure(kind: EngineErrorKind, frame: Frame) -> EngineError:
    """Read the child's account of a failure; it may be of any length."""
    detail = str(frame.header.get("detail"))[:_DETAIL_LENGTH]
    sentence, values = frame.header.get("sentence"), frame.header.get("values")
    if not isinstance(values, dict):
        values = {}
    return EngineError(
        kind,
        detail,
        sentence=None if sentence is None else str(sentence)[:_SENTENCE_LENGTH],
        values={str(key): str(value)[:_SENTENCE_LENGTH] for key, value in values.items()},
    )


def _card_use(values: Any) -> CardUse | None:
    """Read `asdict` of a `CardUse`; raise `KeyError`, `TypeError` or `ValueError` for another."""
    if values is None:
        return None
    sizes = {
        name: int(_amount(values[name]))
        for name in ("foreign", "blocks", "resident", "pinned", "pin_wanted")
    }
    budget, why = values["budget"], values["uncompiled"]
    precision = values.get("precision")
    return CardUse(
        budget=None if budget is None else int(_amount(budget)),
        bound=str(values["bound"])[:_TEXT_LIMIT],
        pin_refused=bool(values["pin_refused"]),
        uncompiled=None if why is None else str(why)[:_TEXT_LIMIT],
        precision=None if precision is None else str(precision)[:_TEXT_LIMIT],
        **sizes,
    )


def _place(values: Any) -> tuple[int, int, int, int]:
    left, top, width, height = map(int, values)
    return left, top, width, height


def _shift(value: Any) -> float | None:
    """Return None or a positive finite number: the schedule takes its logarithm."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FrameError("the request's shift is no number")
    if not (math.isfinite(value) and value > 0.0):
        raise FrameError("the request's shift is not positive")
    return float(value)


def _amount(value: Any) -> float:
    """Return a finite number of at least 0; anything else would spoil every sum it enters.

    Raises `ValueError`.
    """
    number = float(value)
    if not (math.isfinite(number) and 0.0 <= number < _AMOUNT_LIMIT):
        raise ValueError("not an amount")
    return number
