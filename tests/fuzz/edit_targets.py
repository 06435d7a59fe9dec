"""What fuzzing tries of edits: pictures, masks and forms that strangers send, regions in them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final
from unittest import mock

from PIL import Image, ImageDraw

from bot.engine.child import inputs as child_inputs
from bot.engine.child.inputs import read_input
from bot.engine.child.masks import read_mask
from bot.engine.child.references import TINY_SIZES, read_reference
from bot.errors import EngineError, EngineErrorKind
from bot.http.errors import Problem
from bot.http.uploads import read_form
from bot.regions.child import answer
from bot.regions.finder import find_region
from bot.regions.process import read_header
from tests.fuzz.targets import Target, pictures, saved, scratch

_STROKES: Final = 4


def inputs(data: bytes) -> None:
    """Read a file as the engine does: as a picture to draw over, a reference, and a mask.

    Of few pixels: fifty megapixels, which it takes, are a second and hundreds of MB each.
    """
    with mock.patch.object(child_inputs, "PIXELS_LIMIT", 10**6):
        _read_in_every_way(data)


def _read_in_every_way(data: bytes) -> None:
    path, over = scratch() / "input", scratch() / "over.png"
    path.write_bytes(data)
    if not over.exists():
        over.write_bytes(saved("PNG"))
    with _refused():
        picture = read_input(path, (32, 48), alpha=True)
        assert (picture.size, picture.mode) in {((32, 48), "RGB"), ((32, 48), "RGBA")}
    with _refused():
        reference = read_reference(path, TINY_SIZES)
        assert all(image.mode == "RGB" and min(image.size) > 0 for image in reference)
    for inverted in (False, True):
        with _refused():
            mask = read_mask(path, over, (32, 48), inverted=inverted)
            assert (mask.size, mask.mode) == ((32, 48), "L")
            assert mask.getbbox()


@contextmanager
def _refused() -> Iterator[None]:
    refused: EngineError | None = None
    try:
        yield
    except EngineError as error:
        refused = error
    assert refused is None or refused.kind is EngineErrorKind.REFUSED
    assert refused is None or (refused.sentence and "\n" not in refused.sentence)


def masks() -> list[bytes]:
    white, clear = Image.new("L", (9, 7), 255), Image.new("RGBA", (9, 7))
    found = [*pictures()]
    for image, kind in ((white, "PNG"), (white, "GIF"), (clear, "PNG"), (clear, "WEBP")):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        found.append(buffer.getvalue())
    return found


def regions(data: bytes) -> None:
    """Look for a region in two files as the process does that is made for it."""
    length = int.from_bytes(data[:2])
    first, second = data[2 : 2 + length], data[2 + length :]
    for name in (None, "background", "whole", "left"):
        try:
            said = answer({"name": name}, first, second)
        except Exception:  # noqa: BLE001 - the process says "broken" or "failed" of each
            continue
        line, _, rest = said.partition(b"\n")
        header = read_header(line)
        if header["found"]:
            assert 0 <= header["share"] <= 1
            assert sum(header["lengths"]) == len(rest)


def two_pictures() -> list[bytes]:
    pairs = [(one, one) for one in (saved("PNG"), saved("JPEG"))]
    pairs += [
        (_png(picture), _png(copy)) for picture, copy in map(_marked, (b"", bytes(range(40))))
    ]
    return [len(first).to_bytes(2) + first + second for first, second in pairs]


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _marked(data: bytes) -> tuple[Image.Image, Image.Image]:
    """A small picture, and the copy of it that these bytes draw on."""
    picture = Image.linear_gradient("L").resize((56, 48)).convert("RGB")
    copy = picture.copy()
    pen = ImageDraw.Draw(copy)
    for at in range(0, min(len(data), _STROKES * 6) - 5, 6):
        kind, left, top, right, bottom, width = data[at : at + 6]
        x, y = left % 60, top % 60
        box = (x, y, x + right % 50, y + bottom % 50)
        colour = ((kind * 37) % 256, (kind * 91) % 256, (kind * 151) % 256)
        if kind % 3 == 0:
            pen.ellipse(box, outline=colour, width=1 + width % 9)
        elif kind % 3 == 1:
            pen.line(box, fill=colour, width=1 + width % 9)
        else:
            pen.rectangle(box, fill=colour)
    return picture, copy


def marks(data: bytes) -> None:
    """Find what these bytes draw on a copy: a mask of the picture's size, or nothing."""
    picture, copy = _marked(data)
    found = find_region(picture, copy)
    if found is None:
        return
    assert picture.tobytes() != copy.tobytes()
    assert (found.mask.size, found.mask.mode) == (picture.size, "L")
    assert set(found.mask.tobytes()) <= {0, 255}
    assert 0 <= found.share <= 1
    assert found.marks >= 1


def strokes() -> list[bytes]:
    return [
        b"",
        bytes(6),
        b"\x00\x08\x08\x30\x30\x02",
        bytes(range(60)),
        b"\x02\x00\x00\x3f\x3f\x01" * 4,
    ]


def region_answers(data: bytes) -> None:
    """Read what the search for a region says, whoever took its process over."""
    with suppress(ValueError):
        header = read_header(data)
        assert not header["found"] or 0 <= header["share"] <= 1


def said_of_regions() -> list[bytes]:
    found = {"found": True, "lengths": [100, 200], "share": 0.5, "marks": 1}
    return [json.dumps(said).encode() for said in ({"found": False, "broken": "x"}, found, [found])]


def forms(data: bytes) -> None:
    """Read a form with files as the HTTP API does."""
    with suppress(Problem):
        form = read_form(data, b"edge")
        for name, text in form.texts.items():
            assert not name.endswith("[]")
            assert len(text) <= len(data)
        assert sum(len(file) for files in form.files.values() for file in files) <= len(data)


def uploaded_forms() -> list[bytes]:
    text = b'--edge\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nmake it blue\r\n'
    head = b'--edge\r\nContent-Disposition: form-data; name="image[]"; filename="a.png"\r\n\r\n'
    file = head + saved("PNG") + b"\r\n"
    return [text + b"--edge--\r\n", text + file + file + b"--edge--", b"--edge--", file[:60]]


EDIT_TARGETS: Final = {
    "inputs": Target(inputs, masks),
    "regions": Target(regions, two_pictures),
    "marks": Target(marks, strokes, least=100),
    "region-answers": Target(region_answers, said_of_regions),
    "forms": Target(forms, uploaded_forms),
}
