"""No sentence reaches a Discord user past the catalogues."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot import errors

ROOT = Path(__file__).parent.parent.parent
USER_ERRORS = {
    name
    for name, item in vars(errors).items()
    if isinstance(item, type) and issubclass(item, errors.UserError)
}
# The arguments whose text a user sees, by the call's name; numbers are positions.
SINKS: dict[str, tuple[object, ...]] = {
    **dict.fromkeys(USER_ERRORS, (0, "sentence")),
    "send_message": (0, "content"),
    "send": (0, "content"),
    "edit_original_response": ("content",),
    "edit_message": ("content",),
    "reply_privately": (1,),
    "_reply": (1,),
    "Embed": ("title", "description"),
    "set_footer": ("text",),
    "set_author": ("name",),
    "add_field": ("name", "value"),
    "TextDisplay": (0, "content"),
    "Label": ("text", "description"),
    "Button": ("label",),
    "SelectOption": ("label", "description"),
    "Select": ("placeholder",),
    "TextInput": ("label", "placeholder", "default"),
    "Modal": ("title",),
    "Choice": ("name",),
    "File": ("description",),
    "Upload": (2, "description"),
    "command": ("description",),
    "context_menu": ("name",),
    "Group": ("description",),
    "EngineError": ("sentence",),
    "load_error": (0,),
    "_load_error": (0,),
    "_refused": (0,),
    "text_field": (1, "about"),
    "menu_field": (1, "usual"),
    # What the engine says while it loads; looked up in the parent.
    "Loading": (0,),
    "progress": (0,),
    "throttled": (0,),
}
DESCRIBE = "describe"


def name_of(call: ast.Call) -> str:
    function = call.func.value if isinstance(call.func, ast.Subscript) else call.func
    return getattr(function, "attr", getattr(function, "id", ""))


def words(node: ast.AST) -> str:
    """The letters that a node writes itself, and does not look up or fill in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return " ".join(words(part) for part in node.values if isinstance(part, ast.Constant))
    if isinstance(node, ast.BinOp):
        return words(node.left) + words(node.right)
    if isinstance(node, ast.IfExp):
        return words(node.body) + words(node.orelse)
    if isinstance(node, ast.BoolOp):
        return " ".join(words(value) for value in node.values)
    return ""


def assigned(tree: ast.AST) -> dict[str, list[ast.AST]]:
    """What each name of a function or module is set to, there or in functions within."""
    found: dict[str, list[ast.AST]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=False))
                for name, value in pairs:
                    if isinstance(name, ast.Name):
                        found.setdefault(name.id, []).append(value)
    return found


def calls(tree: ast.AST, names: dict[str, list[ast.AST]]) -> Iterator[tuple[ast.Call, dict]]:
    """All calls, each with the values of the names around it."""
    for node in ast.iter_child_nodes(tree):
        inner = names
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = names | assigned(node)
        if isinstance(node, ast.Call):
            yield node, names
        yield from calls(node, inner)


def bypasses(source: str, unseen: tuple[str, ...] = ()) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node, names in calls(ast.parse(source), {}):
        name = name_of(node)
        sinks = () if name in unseen else SINKS.get(name, ())
        given = [
            node.args[place] for place in sinks if isinstance(place, int) and place < len(node.args)
        ]
        given += [
            keyword.value for keyword in node.keywords if keyword.arg in sinks or name == DESCRIBE
        ]
        for argument in given:
            values = names.get(argument.id, []) if isinstance(argument, ast.Name) else [argument]
            text = " ".join(map(words, values))
            if any(character.isalpha() for character in text):
                found.append((argument.lineno, text))
    return found


FILES = sorted(
    path
    for part in ("bot", "cogs")
    for path in (ROOT / part).rglob("*.py")
    # The sandbox plays Discord itself, the benchmarks and the doctor speak to whoever runs them.
    if not {"sandbox", "bench", "doctor"} & set(path.parts)
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_sentence_goes_past_the_catalogues(path):
    # Between a child process and its parent `send` writes frames.
    unseen = ("send",) if {"engine", "imagecheck"} & set(path.parts) else ()
    assert not bypasses(path.read_text("utf-8"), unseen)


@pytest.mark.parametrize(
    "source",
    [
        'raise InvalidRequest("The prompt is empty.")',
        'raise InvalidRequest(f"At most {limit} are possible.")',
        'await interaction.response.send_message("Done." if good else _("Not done."))',
        'discord.ui.Button[Any](label=f"Cancel {n}")',
        '@app_commands.describe(prompt="What it shows.")\ndef f(): ...',
        'Embed(description=name + " is here")',
        'def f():\n    text = f"{name} is here"\n    send_message(text)',
        'def f():\n    n, text = 1, "loading"\n    def g():\n        progress(text, n)',
    ],
)
def test_what_would_bypass_them_is_seen(source):
    assert bypasses(source)


def test_what_is_looked_up_is_not_reported():
    assert not bypasses(
        'send_message(_("Done, {name}.").format(name=x)); Button(label=f"{a} · {b}")'
    )
