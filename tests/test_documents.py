"""The pages: what they link to is there, each says what it is for, and commands are commands."""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import dropwhile, pairwise

import pytest
import yaml

from bot.cli.main import _parser
from tests.documents import PAGES, ROOT, anchors, blocks, bot_commands, commands, links

# Programs of others, which a machine of the tests need not have.
OTHERS = {
    "sudo", "git", "cp", "cat", "echo", "nano", "notepad", "copy", "winget", "uv", "pipx", "docker",
    "cd", "curl", "env", "python3", "curl.exe", "py", "powershell", "Add-Content", "Set-Content",
}  # fmt: skip
OURS = {
    "make", ".venv/bin/python", ".venv/bin/pip", "python", "imagine-bot", ".venv/bin/ray", "./run.bat",
}  # fmt: skip


def refused(words: list[str]) -> object:
    """Return the exit code where the parser ends the program: 0 for --version, 2 for a mistake."""
    try:
        _parser().parse_args(words)
    except SystemExit as end:
        return end.code
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for path, anchor in links(page):
        assert path.exists(), path
        if anchor:
            assert anchor in anchors(path), f"{path.name}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_begins_with_what_it_is_for(page):
    title, first, *_ = re.split(r"\n\n+", page.read_text("utf-8").strip())
    assert re.fullmatch(r"# .+", title)
    assert re.match(r"[\w`*\[]", first), first


def test_every_page_can_be_found_from_the_front_page():
    linked = {path for path, _ in links(ROOT / "README.md")}
    assert {page for page in PAGES if page.parent.name == "docs"} <= linked


def test_what_is_shown_is_a_command_of_the_bot():
    found = bot_commands()
    assert len(found) > 20
    for words, page in found.items():
        # Placeholders of files are words like others; after an ellipsis anything may follow.
        parsed = [word for word in words if word != "…"]
        if parsed in ([], ["bench"]):  # the program itself, and all of its benchmarks
            continue
        assert refused(parsed) in {None, 0}, f"{page.name}: python -m bot {' '.join(words)}"


def test_the_other_programs_are_known_and_find_their_files():
    for page in PAGES:
        for shown in commands(page):
            # Without what sets a variable for this one command.
            words = list(dropwhile(lambda word: "=" in word, shown))
            if not words:
                continue
            assert words[0] in OTHERS | OURS, f"{page.name}: {words}"
            for before, file in pairwise(words):
                if before in {"-r", "-f"} and words[0] != "curl":
                    assert (ROOT / file).is_file(), f"{page.name}: {file}"


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_has_its_targets():
    text = "\n".join(page.read_text("utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    targets = set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE))
    assert targets >= {"demo", "run", "setup", "test", "check"}
    for target in sorted(targets):
        done = subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"make {target}: {done.stderr}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_blocks_are_sound_in_their_shell():
    for page in PAGES:
        for shell, text in blocks(page):
            if shell != "powershell":
                done = subprocess.run(
                    ["bash", "-n"], input=text, capture_output=True, text=True, check=False
                )
                assert (done.returncode, done.stderr) == (0, ""), page.name


def test_docker_runs_commands_of_the_bot():
    compose = [words for page in PAGES for words in commands(page) if words[:1] == ["docker"]]
    assert compose
    for words in compose:
        assert words[1] == "compose"
        file = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
        if "run" in words:
            service, *command = words[words.index("--rm") + 1 :]
            assert service in file["services"]
            _parser().parse_args(command)
        else:
            assert {word for word in words[3:] if word[0] != "-"} <= set(file["services"])
