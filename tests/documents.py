"""The project's pages as the tests read them: their links, and the commands that they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SHELLS = {"bash", "sh", "powershell"}
_BOT = re.compile(r"(?:\.venv/bin/)?python -m bot|imagine-bot")
# What may stand in a sentence beside a command: everything up to the end of the code.
_INLINE = re.compile(rf"(?<!`)`((?:{_BOT.pattern})(?: [^`]*)?)`(?!`)")


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Yield the shells' blocks of a page: the shell, and the text, its lines joined, no comments."""
    for shell, text in _FENCE.findall(page.read_text("utf-8")):
        if shell == "powershell":
            text = text.replace("\\", "/").replace(".venv/Scripts/", ".venv/bin/")  # noqa: PLW2901
        if shell in _SHELLS:
            yield shell, re.sub(r"(?m)(^|\s)#.*$", "", text.replace("\\\n", " "))


def prose(page: Path) -> str:
    """Return the page without its fenced blocks."""
    return _FENCE.sub("", page.read_text("utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the simple commands of the shells' blocks, in words, without comments."""
    for _, text in blocks(page):
        lexer = shlex.shlex(text, posix=True, punctuation_chars="();<>|&\n")
        lexer.commenters = ""
        lexer.whitespace = " \t\r"
        lexer.whitespace_split = True
        words: list[str] = []
        for token in lexer:
            if set(token) <= set("();|&\n"):  # not a redirection, which belongs to its command
                if words and words[0] != ">":
                    yield words
                words = []
            else:
                words.append(token)
        if words:
            yield words


def bot_commands() -> dict[tuple[str, ...], Path]:
    """Return what follows `python -m bot` or `imagine-bot` anywhere, and a page that shows it."""
    found: dict[tuple[str, ...], Path] = {}
    for page in PAGES:
        if page.name == "CHANGELOG.md":
            continue
        shown = [" ".join(map(shlex.quote, words)) for words in commands(page)]
        shown += _INLINE.findall(prose(page))
        for text in shown:
            if (match := _BOT.match(text)) is None:
                continue
            words = shlex.split(text[match.end() :].replace("[", "").replace("]", ""))
            if ">" in words:
                words = words[: words.index(">")]
            found.setdefault(tuple(words), page)
    return found


def anchors(page: Path) -> set[str]:
    """Return the names of a page's headings, as hosts make them of the words."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)]\([^)]*\)", r"\1", heading).replace("`", "").lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """Yield the links of a page to files of the project: the file, and the heading or nothing."""
    for target in re.findall(r"]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield ((page.parent / path).resolve() if path else page), anchor
