"""Discord's limits, each of them once: lengths in characters, sizes in bytes.

From Discord's API documentation (https://docs.discord.com/developers): "Message" (Create Message,
Embed Limits), "Uploading Files", "Component Reference", "Application Commands" and "Receiving and
Responding to Interactions". An interaction's token lives for 15 minutes, which discord.py knows
(`Interaction.expires_at`). What is longer is refused as a whole, with the error 50035.
"""

from __future__ import annotations

from typing import Final

MESSAGE_LENGTH: Final = 2000
"""Of a message's content."""
LAYOUT_TEXT: Final = 4000
"""Of all texts of a message's layout components together."""
FIELD_LENGTH: Final = 1024
"""Of the value of an embed's field."""
NONCE_LENGTH: Final = 25

FILE_BYTES: Final = 10 * 2**20
"""Of one file where no boost allows more."""
REQUEST_BYTES: Final = 25 * 2**20
"""Of a request with all its files."""

CHOICES: Final = 25
"""Of an autocomplete, and options of a select menu."""
CHOICE_LENGTH: Final = 100
"""Of a choice's name and value, and of an option's label."""
CUSTOM_ID_LENGTH: Final = 100
"""Of a component's or a form's `custom_id`."""
ROW_BUTTONS: Final = 5
"""Buttons in one row."""
FORM_TITLE_LENGTH: Final = 45
"""Of a form's (modal's) title."""
