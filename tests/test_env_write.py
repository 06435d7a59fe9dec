"""Settings are written into a `.env` that somebody has edited, and nothing else of it changes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config.env_example import env_example
from bot.config.env_write import with_values, write_env
from bot.config.settings import Settings, load_settings
from bot.errors import ConfigError

OWN = """\
# my notes: do not touch
 \tSOMETHING_ELSE = 'two
lines # IMAGE_MODEL_NAME=no comment'

export LOG_LEVEL=DEBUG # loud
LIMIT_OPEN_JOBS=5
# OWNER_IDS=
LIMIT_OPEN_JOBS=7
a line that sets nothing
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_comments_and_unknown_lines_stay_as_they_are():
    text = with_values(OWN, {"LIMIT_OPEN_JOBS": "9", "OWNER_IDS": "1", "IMAGE_MODEL_NAME": "tiny"})
    changed = OWN.replace("LIMIT_OPEN_JOBS=7", "LIMIT_OPEN_JOBS=9")
    assert text == changed.replace("# OWNER_IDS=", "OWNER_IDS=1") + "IMAGE_MODEL_NAME=tiny\n"


def test_a_new_file_is_the_example_with_the_answers_in_their_places(tmp_path):
    file = tmp_path / ".env"
    write_env(file, {"DISCORD_TOKEN": "a.b.c", "IMAGE_MODEL_NAME": "tiny"}, template=env_example())
    lines = file.read_text("utf-8").splitlines()
    example = env_example().splitlines()
    differing = [line for line, was in zip(lines, example, strict=True) if line != was]
    assert differing == ["DISCORD_TOKEN=a.b.c", "IMAGE_MODEL_NAME=tiny"]
    assert load_settings(_env_file=file).image_model_name == "tiny"


@given(
    st.text(
        st.characters(min_codepoint=32, exclude_characters="${}\x7f\x85\u2028\u2029"), max_size=40
    )
)
def test_a_path_comes_back_as_it_went_in(path):
    from io import StringIO

    from dotenv import dotenv_values  # what the settings read with

    for newline in ("\n", "\r\n"):
        text = with_values(OWN.replace("\n", newline), {"DATA_DIR": path})
        assert dotenv_values(stream=StringIO(text))["DATA_DIR"] == path
        assert text.count("\r\n") == (text.count("\n") if newline == "\r\n" else 0)


@pytest.mark.skipif(sys.platform == "win32", reason="rights are the folder's there")
def test_it_is_its_owners_alone_and_whole_at_any_moment(tmp_path, monkeypatch):
    real = tmp_path / "elsewhere"
    real.write_bytes(b"\xef\xbb\xbfDISCORD_TOKEN=old\r\n")
    real.chmod(0o644)
    link = tmp_path / ".env"
    link.symlink_to(real)
    write_env(link, {"DISCORD_TOKEN": "new"})
    assert link.is_symlink()
    assert real.read_bytes() == b"\xef\xbb\xbfDISCORD_TOKEN=new\r\n"
    assert real.stat().st_mode & 0o777 == 0o600

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match="No space left on device") as raised:
        write_env(link, {"DISCORD_TOKEN": "newest"})
    assert "newest" not in str(raised.value)
    assert real.read_bytes() == b"\xef\xbb\xbfDISCORD_TOKEN=new\r\n"
    assert {path.name for path in tmp_path.iterdir()} == {".env", "elsewhere"}


def test_another_encoding_is_refused_and_stays(tmp_path):
    file: Path = tmp_path / ".env"
    file.write_bytes("DISCORD_TOKEN=x".encode("utf-16"))
    before = file.read_bytes()
    with pytest.raises(ConfigError, match="not in UTF-8"):
        write_env(file, {"DISCORD_TOKEN": "new"})
    assert file.read_bytes() == before
