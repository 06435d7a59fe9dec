"""The scripts for Windows, as far as they can be judged elsewhere: what they call is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import PureWindowsPath

import pytest

from bot.cli.main import _parser
from bot.machine.program import program
from tests.process.kit import ROOT

BATCH, SCRIPT = ROOT / "run.bat", ROOT / "setup.ps1"


@pytest.mark.parametrize("path", [BATCH, SCRIPT], ids=lambda path: path.name)
def test_they_call_commands_and_files_that_are_there(path):
    text = path.read_text("ascii")  # A console's code page is nobody's choice.
    commands = re.findall(r"-m bot ([a-z]+)", text)
    assert commands
    for command in commands:
        assert _parser().parse_args([command]).command == command
    for file in re.findall(r"-r (\S+)|-File (\w+\.ps1)", text):
        assert (ROOT / next(filter(None, file))).is_file()
    # Make is not there, and paths with blanks are quoted or taken literally.
    assert not re.search(r"^\s*(& )?make\b", text, re.MULTILINE)
    assert "requirements.txt" not in text


def test_the_batch_file_ends_its_lines_as_cmd_wants_and_stays_in_its_folder():
    raw = BATCH.read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n")
    lines = raw.decode().splitlines()
    assert 'cd /d "%~dp0"' in lines
    # Asked before it runs, and a question that failed ends it.
    asked, ran = (
        next(i for i, line in enumerate(lines) if f"-m bot {c}" in line) for c in ("setup", "run")
    )
    assert asked < ran
    assert "errorlevel 1 exit /b 1" in lines[asked + 1]
    assert "*.bat text eol=crlf" in (ROOT / ".gitattributes").read_text("utf-8")


@pytest.mark.skipif(shutil.which("pwsh") is None, reason="PowerShell is not installed")
def test_powershell_reads_its_script():
    code = f"[ScriptBlock]::Create((Get-Content -Raw {shlex.quote(str(SCRIPT))})) | Out-Null"
    subprocess.run(["pwsh", "-NoProfile", "-Command", code], check=True)


def test_messages_name_the_command_as_it_was_called(monkeypatch, tmp_path):
    here = tmp_path / "with blanks"
    python = here / ".venv" / "bin" / "python"
    monkeypatch.setattr(sys, "argv", ["bot"])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert program() == "python -m bot"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "executable", str(python))
    assert program() == ".venv/bin/python -m bot"
    monkeypatch.setattr(sys, "argv", [str(PureWindowsPath("imagine-bot.exe"))])
    assert program() == "imagine-bot"


# What PowerShell does not have, or takes for something else.
OTHER = re.compile(r"^(make|sudo|python3|env|curl|\.venv/bin/\S+|[A-Z_]+=\S+)( |$)|>>? \.env")


def test_commands_of_other_systems_have_their_pair():
    """A block of PowerShell behind theirs, or a row of the table in docs/windows.md."""
    table = (ROOT / "docs" / "windows.md").read_text("utf-8")
    seen = 0
    # docs/ray.md is for Linux.
    pages = [ROOT / "README.md", *(p for p in (ROOT / "docs").glob("*.md") if p.name != "ray.md")]
    for page in pages:
        blocks = re.findall(
            r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
        )
        for (language, text), (following, _) in pairwise([*blocks, ("", "")]):
            lines = text.splitlines() if language in ("bash", "sh", "console") else []
            for word in [found[0] for line in lines if (found := OTHER.search(line))]:
                seen += 1
                known = word if word[0] == ">" else "`" + re.sub("=.*", "=", word)
                assert following == "powershell" or known in table, f"{page.name}: {word}"
    assert seen > 10
