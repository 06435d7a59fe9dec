"""Validation of messages as Discord does it: lengths, counts, sizes, what may stand together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from bot.sandbox.components import check_components
from bot.sandbox.errors import Form, Json, empty_message, entries, too_large
from bot.sandbox.model import Flag, Message
from bot.sandbox.payloads import FORWARD
from bot.sandbox.uploads import Upload

CONTENT_LIMIT: Final = 2000
EMBED_TOTAL: Final = 6000
_EMBED_LIMITS: Final = {"title": 256, "description": 4096}
_LEGACY = "MESSAGE_CANNOT_USE_LEGACY_FIELDS_WITH_COMPONENTS_V2"


def check_message(
    body: Json, uploads: Sequence[Upload], *, limit: int, current: Message | None = None
) -> None:
    """Raise 50035, 50006 or 40005 if `body` is no message, or no edit of `current`."""
    if any(upload.size > limit for upload in uploads):
        raise too_large()
    form = Form()
    flags = int(body.get("flags") or 0) | (current.flags if current else 0)
    v2 = bool(flags & Flag.COMPONENTS_V2)
    if body.get("content") is not None:
        form.length(body["content"], 0, CONTENT_LIMIT, "content")
    embeds: list[Json] = body.get("embeds") or []
    _check_embeds(form, embeds)
    files = _file_names(body, uploads, current)
    check_components(form, body.get("components") or [], v2=v2, files=files)
    if v2:
        _check_no_legacy(form, body, current)
    form.count(len(uploads), 0, 10, "files")
    _check_attachments(form, body.get("attachments") or [], uploads, current)
    nonce = body.get("nonce")
    if nonce is not None:
        form.length(str(nonce), 0, 25, "nonce")
    form.check()
    if not _has_substance(body, uploads, current):
        raise empty_message()


def _check_embeds(form: Form, embeds: list[Json]) -> None:
    form.count(len(embeds), 0, 10, "embeds")
    total = 0
    for index, embed in enumerate(embeds):
        here = ("embeds", index)
        for key, high in _EMBED_LIMITS.items():
            form.length(embed.get(key), 0, high, *here, key)
            total += len(embed.get(key) or "")
        footer: Json = embed.get("footer") or {}
        author: Json = embed.get("author") or {}
        form.length(footer.get("text"), 0, 2048, *here, "footer", "text")
        form.length(author.get("name"), 0, 256, *here, "author", "name")
        total += len(footer.get("text") or "") + len(author.get("name") or "")
        fields: list[Json] = embed.get("fields") or []
        form.count(len(fields), 0, 25, *here, "fields")
        for number, field in enumerate(fields):
            form.length(field.get("name"), 1, 256, *here, "fields", number, "name")
            form.length(field.get("value"), 1, 1024, *here, "fields", number, "value")
            total += len(field.get("name") or "") + len(field.get("value") or "")
    if total > EMBED_TOTAL:
        text = f"Embed size exceeds maximum size of {EMBED_TOTAL}"
        form.add("embeds", code="MAX_EMBED_SIZE_EXCEEDED", message=text)


def _check_no_legacy(form: Form, body: Json, current: Message | None) -> None:
    for key in ("content", "embeds"):
        kept = getattr(current, key) if current is not None and key not in body else None
        if body.get(key) or kept:
            text = f"The '{key}' field cannot be used with MessageFlags.IS_COMPONENTS_V2"
            form.add(key, code=_LEGACY, message=text)


def _file_names(body: Json, uploads: Sequence[Upload], current: Message | None) -> set[str]:
    """Return by which names the components of a message may refer to its files."""
    listed: dict[str, Json] = {
        str(entry.get("id")): entry for entry in entries(body, "attachments")
    }
    names = {
        str(listed.get(str(upload.index), {}).get("filename") or upload.filename)
        for upload in uploads
    }
    kept = current.files if current is not None else []
    return names | {
        file.filename for file in kept if "attachments" not in body or str(file.id) in listed
    }


def _check_attachments(
    form: Form, listed: list[Json], uploads: Sequence[Upload], current: Message | None
) -> None:
    known = {str(file.id) for file in current.files} if current else set[str]()
    known |= {str(upload.index) for upload in uploads}
    for index, entry in enumerate(listed):
        if str(entry.get("id")) not in known:
            text = "Attachment data not found"
            form.add("attachments", index, code="ATTACHMENT_NOT_FOUND", message=text)
        description = entry.get("description")
        form.length(description, 0, 1024, "attachments", index, "description")


def _has_substance(body: Json, uploads: Sequence[Upload], current: Message | None) -> bool:
    reference: Json = body.get("message_reference") or {}
    if uploads or reference.get("type") == FORWARD:
        return True
    for key in ("content", "embeds", "components"):
        if body[key] if key in body else current is not None and getattr(current, key):
            return True
    if current is None:
        return False
    return bool(body.get("attachments") if "attachments" in body else current.files)
