"""Reports of a run: sample sheets, and curves as JSON and as a picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image, ImageDraw
from torch import Tensor

SAMPLES: Final = (
    "a red circle on a white background",
    "HELLO in blue letters",
    "蓝色的月亮",
    "three green triangles on a yellow background",
    "a blue square to the left of a red star",
    "a lighthouse at night",
    "the letters CAT",
    "月",
    "a house with a tree",
    "a small yellow star inside a purple circle",
    "两个红色的正方形",
    "a boat, pixel art",
    "an orange cat face",
    "the number 42 in black on white",
    "a pink flower, outline style",
    "a fish on a dark background",
)
_CURVE: Final = (900, 420)
_MARGIN: Final = 50


def sheet(values: Tensor, columns: int = 4) -> Image.Image:
    """Lay [pictures, 3, height, width] from -1 to 1 out in rows."""
    pixels = ((values.float().permute(0, 2, 3, 1) + 1) * 127.5).clamp(0, 255).to("cpu", torch.uint8)
    height, width = pixels.shape[1:3]
    whole = Image.new("RGB", (columns * width, -(-len(pixels) // columns) * height), "white")
    for index, one in enumerate(pixels):
        place = (index % columns * width, index // columns * height)
        whole.paste(Image.fromarray(one.numpy()), place)
    return whole


def write_curves(curves: dict[str, Any], path: Path) -> None:
    """Write `curves` as JSON."""
    path.write_text(json.dumps(curves, indent=1))


def draw_curve(points: Sequence[tuple[float, float]], title: str) -> Image.Image:
    """Draw losses [(step, loss)], the loss on a logarithmic scale."""
    picture = Image.new("RGB", _CURVE, "white")
    drawing = ImageDraw.Draw(picture)
    width, height = _CURVE
    steps = [step for step, _ in points]
    losses = torch.tensor([loss for _, loss in points]).log10()
    low, high = float(losses.min()), float(losses.max())
    across = (width - 2 * _MARGIN) / max(1.0, *steps)
    up = (height - 2 * _MARGIN) / max(1e-9, high - low)
    line = [
        (_MARGIN + step * across, height - _MARGIN - (float(loss) - low) * up)
        for step, loss in zip(steps, losses, strict=True)
    ]
    drawing.rectangle((_MARGIN, _MARGIN, width - _MARGIN, height - _MARGIN), outline="silver")
    drawing.line(line, fill="navy", width=2)
    drawing.text((_MARGIN, 15), title, fill="black", font_size=18)
    drawing.text((5, _MARGIN), f"{10**high:.3g}", fill="black")
    drawing.text((5, height - _MARGIN - 12), f"{10**low:.3g}", fill="black")
    drawing.text((width - 130, height - 35), f"{max(steps):.0f} steps", fill="black")
    return picture


def read_curves(path: Path) -> dict[str, Any]:
    """Read what `write_curves` wrote."""
    return json.loads(path.read_text())
