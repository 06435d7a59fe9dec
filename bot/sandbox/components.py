"""Buttons, selects, forms and the layout components: their rules and their missing ids."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from bot.sandbox.errors import Form, Json
from bot.sandbox.layouts import check_layout, complete
from bot.sandbox.model import walk

ROW, BUTTON, SELECT, TEXT_INPUT = 1, 2, 3, 4
SELECTS: Final = (3, 5, 6, 7, 8)
SECTION, TEXT_DISPLAY, LABEL, FILE_UPLOAD = 9, 10, 18, 19
RADIO_GROUP, CHECKBOX_GROUP, CHECKBOX = 21, 22, 23
LINK_STYLE, PREMIUM_STYLE = 5, 6


def check_components(
    form: Form, rows: list[Json], *, v2: bool, files: Collection[str] = ()
) -> None:
    """Note what Discord would refuse about the components of a message.

    `files` are the names of what is attached to it.
    """
    if v2:
        check_layout(form, rows, files)
    else:
        form.count(len(rows), 0, 5, "components")
        for index, row in enumerate(rows):
            if row.get("type") != ROW:
                text = f'Value of field "type" must be one of ({ROW},).'
                form.add("components", index, "type", code="UNION_TYPE_CHOICES", message=text)
    _check_rows(form, rows, "components")
    _check_unique(form, walk(rows))


def check_modal(form: Form, modal: Json) -> None:
    """Note what Discord would refuse about a form."""
    form.length(modal.get("custom_id"), 1, 100, "data", "custom_id")
    form.length(modal.get("title"), 1, 45, "data", "title")
    rows: list[Json] = modal.get("components") or []
    form.count(len(rows), 1, 5, "data", "components")
    everything = walk(rows)
    for item in everything:
        if item["type"] == TEXT_INPUT:
            form.length(item.get("label"), 0, 45, "data", "components", "label")
            form.length(item.get("placeholder"), 0, 100, "data", "components", "placeholder")
            form.length(item.get("value"), 0, 4000, "data", "components", "value")
        elif item["type"] == LABEL:
            form.length(item.get("label"), 1, 45, "data", "components", "label")
            form.length(item.get("description"), 0, 100, "data", "components", "description")
    _check_unique(form, everything)


def fill_ids(components: list[Json]) -> list[Json]:
    """Number the components without an id, and drop buttons' empty fields, as Discord does.

    Those of the options of menus go likewise; what layout components leave out is filled in.
    """
    complete(components)
    everything = walk(components)
    buttons = [item for item in everything if item["type"] == BUTTON]
    options: list[Json] = [
        option for item in everything if item["type"] == SELECT for option in item["options"]
    ]
    for shown in (*buttons, *options):
        for holder in (shown, shown.get("emoji") or {}):
            for key in [key for key, value in holder.items() if value is None]:
                del holder[key]
    taken = {item["id"] for item in everything if item.get("id")}
    number = 0
    for item in everything:
        if not item.get("id"):
            number += 1
            while number in taken:
                number += 1
            taken.add(number)
            item["id"] = number
    return components


def _check_rows(form: Form, items: list[Json], *path: str | int) -> None:
    for index, item in enumerate(items):
        here = (*path, index)
        children: list[Json] = item.get("components") or []
        match item.get("type"):
            case 1:
                width = 1 if any(child.get("type") in SELECTS for child in children) else 5
                form.count(len(children), 1, width, *here, "components")
            case 2:
                _check_button(form, item, *here)
            case 3 | 5 | 6 | 7 | 8:
                _check_select(form, item, *here)
            case _:
                pass
        _check_rows(form, children, *here, "components")
        if accessory := item.get("accessory"):
            _check_rows(form, [accessory], *here, "accessory")


def _check_button(form: Form, button: Json, *path: str | int) -> None:
    form.length(button.get("label"), 0, 80, *path, "label")
    if not (button.get("label") or button.get("emoji") or button.get("sku_id")):
        text = "A button must have a label or an emoji"
        form.add(*path, code="BUTTON_COMPONENT_INVALID_LABEL", message=text)
    if button.get("style") == LINK_STYLE:
        form.length(button.get("url"), 1, 512, *path, "url")
    elif button.get("style") != PREMIUM_STYLE:
        form.length(button.get("custom_id"), 1, 100, *path, "custom_id")


def _check_select(form: Form, select: Json, *path: str | int) -> None:
    form.length(select.get("custom_id"), 1, 100, *path, "custom_id")
    form.length(select.get("placeholder"), 0, 150, *path, "placeholder")
    if select.get("type") != SELECT:
        return
    options: list[Json] = select.get("options") or []
    form.count(len(options), 1, 25, *path, "options")
    for index, option in enumerate(options):
        for key, low in (("label", 1), ("value", 1), ("description", 0)):
            form.length(option.get(key), low, 100, *path, "options", index, key)


def _check_unique(form: Form, items: list[Json]) -> None:
    seen: set[Any] = set()
    for item in items:
        custom_id = item.get("custom_id")
        if custom_id is not None and custom_id in seen:
            text = "Component custom id cannot be duplicated"
            form.add("components", code="COMPONENT_CUSTOM_ID_DUPLICATED", message=text)
        seen.add(custom_id)
