"""Uploads: forms of fields and files (RFC 7578), and the pictures to start from among them."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from bot.http.errors import Problem
from bot.pictures.containers import picture_kind
from bot.pictures.headers import BYTES_LIMIT, PIXELS_LIMIT, picture_shape, picture_size

UPLOAD_LIMIT: Final = BYTES_LIMIT + 256 * 1024
"""Bytes of a whole body with pictures: one picture at its largest, or several, and the fields."""
UPLOADS_AT_ONCE: Final = 4
"""Such bodies that are read at the same time: each may take three times its bytes."""
FORM: Final = "multipart/form-data"
_SMALL: Final = 256 * 1024
_PARTS_LIMIT: Final = 64
_FIELD_LIMIT: Final = 64 * 1024
_HEADS_LIMIT: Final = 8 * 1024
# RFC 2046, section 5.1.1.
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_DATA_URL: Final = re.compile(r"data:[\w/.+-]{0,100};base64,")
_SHAPES_ALIKE: Final = 0.02
"""How far the ratios of mask and picture may differ; the engine allows as much."""
_NOT_ONE: Final = "The body is not valid multipart/form-data."


@dataclass(slots=True)
class UploadedForm:
    """What was sent: the texts by name, the last of a name counting, and the files of each name."""

    texts: dict[str, str] = field(default_factory=dict[str, str])
    files: dict[str, list[bytes]] = field(default_factory=dict[str, list[bytes]])


def large(request: Request) -> bool:
    """Tell whether a body may have pictures in it: a form, a long one, or of no told length."""
    length = request.headers.get("content-length", "")
    small = length.isascii() and length.isdecimal() and int(length[:12]) <= _SMALL
    return kind_of(request) == FORM or not small


def kind_of(request: Request) -> str:
    """Return what a request's body is declared as, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body_of(request: Request) -> bytes:
    """Return a body, whose bytes the guard has bounded, once; raise `Problem`.

    Unlike `Request.body`, which keeps it for as long as its client waits for a picture.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
    except ClientDisconnect:
        raise Problem(400, "The body did not arrive.") from None
    return bytes(body)


async def form_of(request: Request) -> UploadedForm:
    """Read a request's form, whose bytes the guard has bounded; raise `Problem`."""
    kind = request.headers.get("content-type", "")
    if kind_of(request) != FORM:
        raise Problem(
            415, f"Send a form, with the header Content-Type: {FORM}, as OpenAI's clients do."
        )
    said = Message()
    said["Content-Type"] = kind
    boundary = said.get_param("boundary")
    if not isinstance(boundary, str) or not _BOUNDARY.fullmatch(boundary):
        raise Problem(422, _NOT_ONE)
    body = await body_of(request)
    return await asyncio.to_thread(read_form, body, boundary.encode())


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


def files_in(form: UploadedForm, *names: str) -> list[list[bytes]]:
    """Return the files of each of these names, all of them pictures; raise `Problem`.

    A file of another name is refused.
    """
    if other := next((name for name in form.files if name not in names), None):
        raise Problem(422, f"{other}: it is no file.", param=other)
    found = [form.files.pop(name, []) for name in names]
    for name, files in zip(names, found, strict=True):
        for data in files:
            require_picture(name, data)
    return found


def only_one(name: str, found: list[bytes]) -> bytes | None:
    """Return the file of a name, None where there is none; raise `Problem` for several."""
    if len(found) > 1:
        raise Problem(422, f"{name}: one file is possible; {len(found)} came.", param=name)
    return found[0] if found else None


def decoded(name: str, text: str) -> bytes:
    """Return the picture in base64 or in a data URL of it; raise `Problem`. Blocking."""
    url = _DATA_URL.match(text)
    try:
        data = base64.b64decode(text[url.end() :] if url else text, validate=True)
    except ValueError:
        raise Problem(422, f"{name}: it is not valid base64.", param=name) from None
    require_picture(name, data)
    return data


def require_picture(name: str, data: bytes) -> None:
    """Raise `Problem` for what is no picture to start from, by what its header claims.

    It is not decoded here: a crafted file meets its decoder in the engine's process.
    """
    width, height = picture_size(data) or (0, 0)
    if picture_kind(data) is None or not width or not height:
        raise Problem(422, f"{name}: it must be a PNG, JPEG, WebP or GIF picture.", param=name)
    if len(data) > BYTES_LIMIT:
        raise Problem(422, f"{name}: at most {BYTES_LIMIT // 2**20} MiB are possible.", param=name)
    if width * height > PIXELS_LIMIT:
        raise Problem(
            422, f"{name}: at most {PIXELS_LIMIT // 10**6} megapixels are possible.", param=name
        )


def require_over(mask: bytes, picture: bytes) -> None:
    """Raise `Problem` for a mask that cannot lie over all of its picture."""
    over, under = picture_shape(mask), picture_shape(picture)
    if over is None or under is None:
        return
    if abs(over[0] * under[1] / (over[1] * under[0]) - 1) > _SHAPES_ALIKE:
        raise Problem(
            422,
            "mask: it has another shape than the picture; it must lie over all of it.",
            param="mask",
        )


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
