"""Requests and events as the headers of frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bot.engine.frames import Frame, FrameError
from bot.engine.protocol import (
    EngineRequest,
    Event,
    Finished,
    Loaded,
    Loading,
    Picture,
    Preview,
    Step,
)


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
    }


def read_request(header: Mapping[str, Any]) -> EngineRequest:
    """Read what `request_fields` wrote."""
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
    )


def read_event(frame: Frame) -> Event:
    """Turn a message of the child into an event; raise `FrameError` where it is none."""
    header = frame.header
    try:
        match frame.type:
            case "loading":
                fraction = header.get("fraction")
                return Loading(str(header["stage"]), None if fraction is None else float(fraction))
            case "loaded":
                return Loaded(
                    str(header["model"]),
                    str(header["device"]),
                    float(header["seconds"]),
                    float(header["imports_s"]),
                )
            case "step":
                return Step(int(header["index"]), int(header["total"]))
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
            case "finished":
                timings = {str(k): float(v) for k, v in dict(header["timings"]).items()}
                peak = header["peak_gpu_bytes"]
                return Finished(timings, None if peak is None else int(peak))
            case other:
                raise FrameError(f"the child sent a message of type {other[:40]!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise FrameError(f"the child's {frame.type[:40]!r} message lacks a field") from error
