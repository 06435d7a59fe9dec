"""Cogs are found by themselves: a file that is added to their folder is loaded, by its name."""

from __future__ import annotations

import sys

import pytest

import cogs
from bot.client.extensions import extension_names
from bot.errors import StartupError
from tests.wire.kit import staged, text_of

ROLL = '''
"""`/roll`: a number."""

from discord import app_commands


@app_commands.command(description="Roll.")
async def roll(interaction):
    await interaction.response.send_message("four")


async def setup(bot):
    bot.tree.add_command(roll)
'''


@pytest.fixture
def folder(tmp_path):
    """A folder whose files are cogs too."""
    added = tmp_path / "added"
    added.mkdir()
    cogs.__path__.append(str(added))
    before = set(sys.modules)
    yield added
    cogs.__path__.remove(str(added))
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(added)):
            del sys.modules[name]


async def test_a_file_that_is_added_is_loaded(sandbox, tmp_path, folder):
    (folder / "roll.py").write_text(ROLL, encoding="utf-8")
    async with staged(sandbox, tmp_path / "data"):
        invocation = await sandbox.user("alice").slash("general", "roll")
        response = await invocation.response()
        assert text_of(response.message) == "four"


async def test_a_package_that_is_added_is_found(folder):
    (folder / "dice").mkdir()
    (folder / "dice" / "__init__.py").write_text(ROLL, encoding="utf-8")
    assert "cogs.dice" in extension_names()


async def test_one_without_setup_stops_the_start_and_is_named(sandbox, tmp_path, folder):
    (folder / "idle.py").write_text('"""Nothing."""\n', encoding="utf-8")
    with pytest.raises(StartupError, match=r"cogs\.idle has no function setup"):
        async with staged(sandbox, tmp_path / "data"):
            pass


async def test_without_any_the_start_fails(sandbox, tmp_path, monkeypatch):
    """Else the sync would tell Discord that the bot has no commands."""
    monkeypatch.setattr(cogs.__spec__, "submodule_search_locations", [str(tmp_path)])
    with pytest.raises(StartupError, match=r"cogs, .* is missing or empty"):
        async with staged(sandbox, tmp_path / "data"):
            pass


def test_the_order_is_the_alphabets():
    names = extension_names()
    assert names == sorted(names)
    assert {"cogs.admin", "cogs.imagine"} <= set(names)
    assert not [name for name in names if name.startswith("cogs.admin.")]
