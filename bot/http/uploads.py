"""Uploads: forms of fields and files (RFC 7578), and the picture to start from among them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from bot.http.errors import Problem
from bot.pictures.containers import picture_kind
from bot.pictures.headers import BYTES_LIMIT, PIXELS_LIMIT, picture_size

UPLOAD_LIMIT: Final = BYTES_LIMIT + 256 * 1024
"""Bytes of a whole form: a picture at its largest, and the fields."""
UPLOADS_AT_ONCE: Final = 4
"""Forms that are read at the same time: each may take three times its bytes."""
_KIND: Final = "multipart/form-data"
_PARTS_LIMIT: Final = 64
_FIELD_LIMIT: Final = 64 * 1024
_HEADS_LIMIT: Final = 8 * 1024
# RFC 2046, section 5.1.1.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_NOT_ONE: Final = "The body is not valid multipart/form-data."


@dataclass(slots=True)
class UploadedForm:
    """What was sent: the texts by name, the last of a name counting, and the files of each name."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])


async def form_of(request: Request) -> UploadedForm:
    """Read a request's form, whose bytes the guard has bounded; raise `Problem`."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != _KIND:
        raise Problem(
            415, f"Send a form, with the header Content-Type: {_KIND}, as OpenAI's clients do."
        )
    said = Message()
    said["Content-Type"] = kind
    boundary = said.get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise Problem(422, _NOT_ONE)
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
    except ClientDisconnect:
        raise Problem(400, "The body did not arrive.") from None
    return await asyncio.to_thread(lambda: read_form(bytes(body), boundary.encode()))


def read_form(body: bytes, boundary: bytes) -> UploadedForm:
    """Return the form that a body holds; raise `Problem` for what is none. Blocking."""
    form = UploadedForm()
    for head, content in _parts(body, boundary):
        said = Message()
        said["Content-Disposition"] = head
        name = said.get_param("name", header="Content-Disposition")
        if not isinstance(name, str):
            raise Problem(422, _NOT_ONE)
        # A list's files come as `image[]`, one after the other.
        name = name.removesuffix("[]")
        if said.get_filename() is not None:
            form.files.setdefault(name, []).append(content)
            continue
        if len(content) > _FIELD_LIMIT:
            raise Problem(422, f"{name}: at most {_FIELD_LIMIT // 1024} KiB are possible.")
        try:
            form.texts[name] = content.decode()
        except UnicodeDecodeError:
            raise Problem(422, f"{name}: it is not in UTF-8.") from None
    return form


def picture_in(form: UploadedForm) -> bytes:
    """Return the picture to start from, by what its header claims; raise `Problem`.

    It is not decoded here: a crafted file meets its decoder in the engine's process.
    """
    if form.files.pop("mask", None):
        raise Problem(
            422,
            'There are no masks here: the whole picture is drawn anew. Leave "mask" out.',
            param="mask",
        )
    found = form.files.pop("image", [])
    if other := next(iter(form.files), None):
        raise Problem(422, f"{other}: it is no file.", param=other)
    if len(found) != 1:
        sentence = "Send one picture to start from, as the file image"
        raise Problem(
            422,
            f"{sentence}; {len(found)} came." if found else f"{sentence}.",
            param="image",
            code=None if found else "missing_required_parameter",
        )
    (picture,) = found
    width, height = picture_size(picture) or (0, 0)
    if picture_kind(picture) is None or not width or not height:
        raise Problem(422, "image: it must be a PNG, JPEG, WebP or GIF picture.", param="image")
    if len(picture) > BYTES_LIMIT:
        raise Problem(
            422, f"image: at most {BYTES_LIMIT // 2**20} MiB are possible.", param="image"
        )
    if width * height > PIXELS_LIMIT:
        raise Problem(
            422, f"image: at most {PIXELS_LIMIT // 10**6} megapixels are possible.", param="image"
        )
    return picture


def _parts(body: bytes, boundary: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield each part's `Content-Disposition` and its bytes; raise `Problem`."""
    limit = b"\r\n--" + boundary
    # What stands before the first boundary is nobody's.
    at = 0 if body.startswith(limit[2:]) else body.find(limit) + 2
    if at == 1:
        raise Problem(422, _NOT_ONE)
    at += len(limit) - 2
    for _ in range(_PARTS_LIMIT):
        if body.startswith(b"--", at):
            return
        line = body.find(b"\r\n", at, at + _HEADS_LIMIT)
        heads_end = body.find(b"\r\n\r\n", line, at + _HEADS_LIMIT)
        end = body.find(limit, heads_end + 2)
        if line < 0 or body[at:line].strip(b" \t") or heads_end < 0 or end < 0:
            raise Problem(422, _NOT_ONE)
        yield _disposition(body[line + 2 : heads_end]), body[heads_end + 4 : end]
        at = end + len(limit)
    if not body.startswith(b"--", at):
        raise Problem(422, f"A form has at most {_PARTS_LIMIT} parts here.")


def _disposition(heads: bytes) -> str:
    for head in heads.decode("utf-8", "replace").split("\r\n"):
        name, _, value = head.partition(":")
        if name.strip().lower() == "content-disposition":
            return value.strip()
    return ""
