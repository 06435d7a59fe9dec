"""The exception tree.

::

    BotError
    ├── UserError            the sentence is shown to the user as it stands
    │   ├── InvalidRequest   a bad prompt, size, seed, attachment …
    │   ├── LimitReached     a quota or rate limit refuses for now
    │   ├── QueueClosed      the queue takes nothing new (full, or shutting down)
    │   ├── StorageRefused   nothing can be stored for now (a full disk, for one)
    │   ├── NotAllowed       the user may not do this
    │   ├── DiscordRefused   Discord did not take an answer
    │   └── JobNotFound      no such job, or not one that this user may see
    ├── StartupError         the process cannot start; the sentence goes to stderr, exit code 78
    │   ├── ConfigError      a setting is missing or wrong
    │   └── DatabaseError    the database is damaged, newer than the code, or in use
    └── EngineError          the picture could not be made; see `EngineErrorKind`

Anything else that reaches a user is logged under a short id, and the user sees that id.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from bot.words import _

_FIELD: Final = re.compile(r"\{(\w+)\}")


class BotError(Exception):
    """Base of every error this project raises on purpose."""


class UserError(BotError):
    """An error whose `sentence` is written for the user who caused it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence


class InvalidRequest(UserError):
    """The request itself is wrong; asking again unchanged gives the same answer."""


class LimitReached(UserError):
    """A limit refuses the request for now.

    `retry_at` is the Unix time in seconds at which the same request may pass, or None when it
    depends on something other than the clock (an open job that has to end first).
    """

    def __init__(self, sentence: str, *, retry_at: float | None = None) -> None:
        super().__init__(sentence)
        self.retry_at = retry_at


class QueueClosed(UserError):
    """The queue accepts nothing new: it is full, or the bot is shutting down."""


class StorageRefused(UserError):
    """Nothing can be stored for now; nothing was accepted."""


class NotAllowed(UserError):
    """The user lacks the right to do this."""


class JobNotFound(UserError):
    """There is no such job, or the user may not see it."""


class DiscordRefused(UserError):
    """Discord did not take an answer; the same may work later."""


class StartupError(BotError):
    """The process cannot start. The message is one plain sentence; the exit code is 78."""


class ConfigError(StartupError):
    """A setting is missing or wrong. The message names the variable, and never a secret."""


class DatabaseError(StartupError):
    """The database is damaged, newer than this code, or in use by another process."""


class EngineErrorKind(StrEnum):
    """Why a generation ended without a picture."""

    OUT_OF_MEMORY = "out_of_memory"
    """The GPU (or the host) ran out of memory."""
    RAISED = "raised"
    """The pipeline raised an ordinary exception; the child lives on."""
    DIED = "died"
    """The child process ended while it held the job."""
    SILENT = "silent"
    """The child said nothing for longer than the limit of its present activity; it was killed."""
    OVERTIME = "overtime"
    """The child went on for longer than the job may take, with progress or without; it was killed.
    """
    GARBLED = "garbled"
    """The child broke the protocol (junk, an oversized frame, a wrong job id); it was killed."""
    DISK_REFUSED = "disk_refused"
    """The picture could not be written (a full disk, for one): not the job's fault."""
    LOAD_FAILED = "load_failed"
    """The model could not be loaded (missing or damaged files, no GPU …)."""
    SWITCH_FAILED = "switch_failed"
    """Another model than the engine's own could not be loaded; the engine draws others."""
    REFUSED = "refused"
    """The request itself cannot be drawn (a LoRA that is not there); trying again is of no use."""


def filled(sentence: str, values: Mapping[str, str]) -> str:
    """Fill the `{name}`s of a sentence that have a value; all else stays as it is.

    Not `str.format`: the sentence may be the engine child's, and a width of its choice
    (`{name:>999999999}`) would be the memory of this process.
    """
    return _FIELD.sub(lambda field: values.get(field[1], field[0]), sentence)


class EngineError(BotError):
    """The engine failed to make a picture.

    `kind` says how; `detail` is for the log and may hold a traceback's last line, never a prompt;
    `sentence`, if given, is fit for the user (for example a missing model file's name); it is
    written with `{name}`s that `values` fill, so that it can be translated where it is read.
    """

    def __init__(
        self,
        kind: EngineErrorKind,
        detail: str,
        *,
        sentence: str | None = None,
        values: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.template = sentence
        self.values = dict(values or {})
        self.loading = False
        """Whether it happened before the engine was given the job, which then had no part in it."""

    @property
    def sentence(self) -> str | None:
        """The sentence in English."""
        return None if self.template is None else filled(self.template, self.values)

    def spoken(self) -> str | None:
        """Return the sentence in the language that is spoken here."""
        if self.template is None:
            return None
        # `why` is a reason of ours in words, of which the catalogues may know the others' too.
        reason = self.values.get("why")
        values = self.values | {"why": _(reason)} if reason else self.values
        return filled(_(self.template), values)


class GenerationCancelled(BotError):
    """The generation ended because `Engine.cancel` asked for it."""
