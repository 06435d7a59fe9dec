"""tests/engine/misbehaving.py with pictures and previews that are worth carrying far."""

from __future__ import annotations

import os

import misbehaving
from misbehaving import build
from PIL import Image

from tests.engine.spoiling import instead

__all__ = ["build"]


def do_film(request, report) -> None:
    """A preview after every step."""
    for index in range(2, request.steps + 1):
        report.step(index, request.steps)
        report.preview(index, misbehaving.numbered_jpeg(index))


def do_noise(request, report) -> None:
    """A picture that no PNG makes smaller."""

    def act(send, fields) -> None:
        size = request.width, request.height
        data = os.urandom(3 * request.width * request.height)
        Image.frombytes("RGB", size, data).save(fields["path"], format="PNG", compress_level=1)
        send()

    instead(report, "picture", act)


def do_copy(request, report) -> None:
    """Draw the input image, its mask as the second picture, and then the references."""

    def act(send, fields) -> None:
        file = (request.input_image, request.mask, *request.references)[fields["index"]]
        Image.open(file).save(fields["path"], format="PNG")
        send()

    instead(report, "picture", act)


for act in (do_film, do_noise, do_copy):
    setattr(misbehaving, act.__name__, act)
