"""These tests draw training pictures, which takes the fonts of three Debian packages."""

from __future__ import annotations

import pytest

from bot.lab.tiny.train.scenes.letters import FACES, FontMissingError, font_path


@pytest.fixture(autouse=True, scope="session")
def fonts() -> None:
    """Skip, with the missing package's name, where a font is not installed."""
    try:
        for face in FACES:
            font_path(face)
    except FontMissingError as error:
        pytest.skip(str(error))
