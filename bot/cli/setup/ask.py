"""Questions at the terminal, and the usual answers where nobody is asked."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from getpass import getpass
from typing import Final

from rich.console import Console
from rich.text import Text

from bot.doctor.finding import Finding, Level
from bot.errors import StartupError
from bot.words import _

Read = Callable[[str], str]
"""Reads an answer; raises `ValueError` with half a sentence where it cannot be one."""
_MARKS: Final = {
    Level.OK: ("ok    ", "green"),
    Level.WARNING: ("note  ", "yellow"),
    Level.ERROR: ("error ", "bold red"),
}


class Asker:
    """Asks at the terminal, or where `asking` is false takes the usual answers."""

    def __init__(self, *, asking: bool) -> None:
        self.asking = asking
        self._console = Console(highlight=False)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._print(Text(f"\n{text}", "bold"))

    def say(self, text: str) -> None:
        """Say a sentence; links and commands in it stay in one piece."""
        self._print(Text(text))

    def show(self, findings: Iterable[Finding]) -> None:
        """Show what checks found, each with its next step."""
        for found in findings:
            self._print(Text.assemble(_MARKS[found.level], f"{found.check}: {found.text}"))
            if found.step and found.level is not Level.OK:
                self._print(Text(f"      -> {found.step}", "cyan"))

    def ask(self, question: str, read: Read, usual: str | None, option: str) -> str:
        """Return what `read` makes of the answer; Enter means `usual`, if there is one.

        Raises `StartupError` that names the `option` where nobody is asked and nothing is usual.
        """
        if not self.asking:
            if usual is None:
                raise StartupError(
                    _("{question} Nobody is asked here: give {option}.").format(
                        question=question, option=option
                    )
                )
            return read(usual)
        while True:
            given = self._line(question, usual) or usual
            try:
                return read(given or "")
            except ValueError as error:
                self.say(_("That will not do: {reason}.").format(reason=error))

    def secret(self, question: str, option: str) -> str:
        """Return what is typed without being shown; raise `StartupError` where nobody is asked."""
        if not self.asking:
            return self.ask(question, str, None, option)
        # It turns the echo off before it asks, so that nothing typed early is shown.
        return self._typed(f"{question} ", getpass)

    def confirm(self, question: str, *, usual: bool) -> bool:
        """Return whether the answer is yes; where nobody is asked it is the usual one."""
        if not self.asking:
            return usual
        known = {"y": True, "yes": True, "是": True, "n": False, "no": False, "否": False}
        while True:
            answer = self._line(question, "y" if usual else "n").lower()
            if not answer:
                return usual
            if answer in known:
                return known[answer]
            self.say(_("Please answer y (yes) or n (no)."))

    def _line(self, question: str, usual: str | None) -> str:
        return self._typed(f"{question} [{usual}] " if usual else f"{question} ")

    def _typed(self, prompt: str, read: Callable[[str], str] = input) -> str:
        try:
            return read(prompt).strip()
        except EOFError:
            raise StartupError(_("The input ended before the last question.")) from None

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
        sys.stdout.flush()


def at_terminal() -> bool:
    """Tell whether somebody can be asked."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
