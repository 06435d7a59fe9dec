"""Notice: how people want to learn of an answer that they waited long for."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Notice(StrEnum):
    """What tells the author of a job that took long: a value of the setting `notice`."""

    REPLY = "reply"
    """The answer is a new message that mentions its author; the waiting one is removed."""
    DIRECT = "direct"
    """The answer is a direct message; the waiting message is removed."""
    QUIET = "quiet"
    """The answer takes the place of the waiting message, which notifies nobody."""


USUAL: Final = Notice.REPLY
"""What counts where neither the user nor the server has chosen.

Whoever asked in a channel expects the answer there, and to be called when it comes: that is what
other image bots do. A direct message would keep the picture from the others, and an edit is missed.
"""
