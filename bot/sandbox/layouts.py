"""The layout components (version 2): what Discord refuses about them, and what it fills in."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from bot.sandbox.errors import Form, Json
from bot.sandbox.model import TEXT_DISPLAY, walk

ROW, BUTTON = 1, 2
SECTION, THUMBNAIL, GALLERY, FILE, SEPARATOR, CONTAINER = 9, 11, 12, 13, 14, 17
TOP: Final = (ROW, SECTION, TEXT_DISPLAY, GALLERY, FILE, SEPARATOR, CONTAINER)
COMPONENTS_LIMIT: Final = 40
"""Of all components of a message together, those within others too."""
TEXT_LIMIT: Final = 4000
"""Characters of all text displays of a message together."""
GALLERY_LIMIT: Final = 10
_ALT_LIMIT: Final = 1024
_SECTION_TEXTS: Final = 3
_ATTACHED: Final = "attachment://"

# What Discord's replies hold where a request leaves it out.
_FILLED_IN: Final[dict[int, Json]] = {
    THUMBNAIL: {"description": None, "spoiler": False},
    FILE: {"spoiler": False},
    SEPARATOR: {"spacing": 1, "divider": True},
    CONTAINER: {"accent_color": None, "spoiler": False},
}


def check_layout(form: Form, items: list[Json], files: Collection[str]) -> None:
    """Note what Discord would refuse about a message of layout components.

    `files` are the names of what is attached to it, which galleries refer to.
    """
    everything = walk(items)
    form.count(len(everything), 0, COMPONENTS_LIMIT, "components")
    texts = sum(len(item.get("content") or "") for item in everything)
    if texts > TEXT_LIMIT:
        text = f"Total text length must be {TEXT_LIMIT} or fewer"
        form.add("components", code="BASE_TYPE_MAX_LENGTH", message=text)
    _check_parts(form, items, TOP, files, "components")


def complete(items: list[Json]) -> None:
    """Fill in what Discord's replies hold besides, in place."""
    for item in walk(items):
        _fill(item, _FILLED_IN.get(item["type"], {}))
        if item["type"] == GALLERY:
            entries: list[Json] = item["items"]
            for entry in entries:
                _fill(entry, {"description": None, "spoiler": False})


def _fill(item: Json, usual: Json) -> None:
    for key, value in usual.items():
        item.setdefault(key, value)


def _check_parts(
    form: Form,
    items: list[Json],
    allowed: Collection[int],
    files: Collection[str],
    *path: str | int,
) -> None:
    for index, item in enumerate(items):
        here = (*path, index)
        if item.get("type") not in allowed:
            text = f'Value of field "type" must be one of {tuple(allowed)}.'
            form.add(*here, "type", code="UNION_TYPE_CHOICES", message=text)
            continue
        children: list[Json] = item.get("components") or []
        match item["type"]:
            case 9:
                form.count(len(children), 1, _SECTION_TEXTS, *here, "components")
                _check_parts(form, children, (TEXT_DISPLAY,), files, *here, "components")
                accessory: Json = item.get("accessory") or {}
                both = (BUTTON, THUMBNAIL)
                _check_parts(form, [accessory], both, files, *here, "accessory")
            case 10:
                # What is blank is as good as nothing, as in a message's content.
                form.length((item.get("content") or "").strip(), 1, TEXT_LIMIT, *here, "content")
            case 11:
                _check_picture(form, item, files, *here)
            case 12:
                entries: list[Json] = item.get("items") or []
                form.count(len(entries), 1, GALLERY_LIMIT, *here, "items")
                for number, entry in enumerate(entries):
                    _check_picture(form, entry, files, *here, "items", number)
            case 13:
                _check_media(form, item.get("file") or {}, files, *here, "file", attached=True)
            case 17:
                form.count(len(children), 1, COMPONENTS_LIMIT, *here, "components")
                inner = [kind for kind in TOP if kind != CONTAINER]
                _check_parts(form, children, inner, files, *here, "components")
            case _:
                pass


def _check_picture(form: Form, entry: Json, files: Collection[str], *path: str | int) -> None:
    if (description := entry.get("description")) is not None:
        form.length(description, 1, _ALT_LIMIT, *path, "description")
    _check_media(form, entry.get("media") or {}, files, *path, "media")


def _check_media(
    form: Form, media: Json, files: Collection[str], *path: str | int, attached: bool = False
) -> None:
    url = str(media.get("url") or "")
    if url.startswith(_ATTACHED):
        if url.removeprefix(_ATTACHED) not in files:
            text = f"The referenced attachment {url} was not found."
            code = "UNFURLED_MEDIA_ITEM_REFERENCED_ATTACHMENT_NOT_FOUND"
            form.add(*path, "url", code=code, message=text)
    elif attached or not url.startswith(("http://", "https://")):
        text = "Scheme must be one of ('http', 'https', 'attachment')."
        form.add(*path, "url", code="URL_TYPE_INVALID_SCHEME", message=text)
