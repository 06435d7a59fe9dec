"""What libraries announce about each other's calls; all other warnings are errors of the tests.

pyproject.toml lets these pass. An announcement about a call of ours is no entry here: the newer
way is used where it is there.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib import metadata
from typing import Final


@dataclass(frozen=True, slots=True)
class Announcement:
    """A warning by `library` about a call in `caller`, which ends with version `until`."""

    message: str  # a regular expression for its beginning
    category: str
    library: str
    until: str
    caller: str
    name: str  # what is announced to go; our own code must not use it
    replacement: str | None = None  # a package that goes on with it

    @property
    def filter(self) -> str:
        return f"ignore:{self.message}:{self.category}"

    @property
    def installed(self) -> str:
        if self.library == "Python":
            return platform.python_version()
        return metadata.version(self.library)


ANNOUNCEMENTS: Final = [
    Announcement(
        message="`past_key_values` is deprecated and will be removed in version 5.40.0",
        category="FutureWarning",
        library="transformers",
        until="5.40",
        caller="diffsynth",
        name="past_key_values",
    ),
    Announcement(
        message="'audioop' is deprecated and slated for removal in Python 3.13",
        category="DeprecationWarning",
        library="Python",
        until="3.13",
        caller="discord.py",
        name="audioop",
        replacement="audioop-lts",
    ),
]
