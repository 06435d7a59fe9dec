"""What libraries announce about each other's calls; all other warnings are errors of the tests.

An announcement about a call of ours is no entry here: the newer way is used where it is there.
"""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import metadata


@dataclass(frozen=True, slots=True)
class Announcement:
    """A warning by `library` about a call in `caller`, which ends with version `until`."""

    message: str  # a regular expression for its beginning
    category: str
    library: str
    until: str
    caller: str
    name: str  # what is announced to go; our own code must not use it

    @property
    def installed(self) -> str:
        return (
            platform.python_version()
            if self.library == "Python"
            else metadata.version(self.library)
        )


ANNOUNCEMENTS = [
    Announcement(
        message="`past_key_values` is deprecated and will be removed in version 5.40.0",
        category="FutureWarning",
        library="transformers",
        until="5.40",
        caller="diffsynth",
        name="past_key_values",
    ),
]
if sys.version_info < (3, 13):  # From there on discord.py asks for audioop-lts by itself.
    ANNOUNCEMENTS.append(
        Announcement(
            message="'audioop' is deprecated and slated for removal in Python 3.13",
            category="DeprecationWarning",
            library="Python",
            until="3.13",
            caller="discord.py",
            name="audioop",
        )
    )
