"""The gateway: one event that discord.py cannot read costs that event, never the process.

Discord changes its payloads, and anyone who may write to the bot chooses what some of them hold.
discord.py lets what a parser raises end `Client.connect`, and with it the bot.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import discord

from bot.client.unreachable import why_unreachable

if TYPE_CHECKING:
    from discord.gateway import DiscordWebSocket

log = logging.getLogger(__name__)

Parser = Callable[[Any], None]

# Without it there is no session, and nothing to go on with: the line is opened anew.
_NEEDED: Final = frozenset({"READY"})
_FIRST_RETRY_S: Final = 1.0
# Discord allows 1,000 new sessions a day.
_LONGEST_RETRY_S: Final = 300.0
# A line that held so long has shown that it can be used.
_PROVEN_S: Final = 600.0
_FRAMES: Final = 3


def leave_out_unreadable(client: discord.Client) -> None:
    """Let a client log and leave out each event whose parser raises.

    discord.py looks parsers up by the event's name in one dictionary for each event that comes,
    and offers no hook. Its parsers are replaced there, and nothing else is.
    """
    parsers: dict[str, Parser] = client._connection.parsers  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    for name, parse in parsers.items():
        if name not in _NEEDED:
            parsers[name] = _tolerant(name, parse)


def _tolerant(name: str, parse: Parser) -> Parser:
    @wraps(parse)
    def tolerant(data: Any) -> None:
        try:
            parse(data)
        except Exception as error:  # noqa: BLE001
            log.error("a %s cannot be read and is left out: %s", name, _place_of(error))

    return tolerant


_LOST: Final = "Attempting a reconnect in "


def _told_in_a_line(record: logging.LogRecord) -> bool:
    """Make discord.py's traceback of each lost connection one line that says why."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and str(record.msg).startswith(_LOST):
        delay = record.getMessage().removeprefix(_LOST)
        code = f"closed with {error.code}" if isinstance(error, discord.ConnectionClosed) else None
        record.msg = "the connection to Discord is lost (%s); next try in %s"
        record.args = (code or why_unreachable(error), delay)
        record.exc_info = record.exc_text = None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


async def stay_connected(client: discord.Client) -> None:
    """Serve a client's gateway; open it anew where what comes over it cannot be read at all.

    Raises what Discord closes the line for, as `discord.ConnectionClosed` or
    `discord.PrivilegedIntentsRequired`.
    """
    logging.getLogger("discord.client").addFilter(_told_in_a_line)
    pause = _FIRST_RETRY_S
    while True:
        started = time.monotonic()
        try:
            await client.connect()
        except (discord.ConnectionClosed, discord.PrivilegedIntentsRequired):
            raise
        except Exception as error:  # noqa: BLE001
            if time.monotonic() - started >= _PROVEN_S:
                pause = _FIRST_RETRY_S
            delay = pause * random.uniform(0.5, 1.0)  # noqa: S311
            log.error(
                "what comes over the gateway cannot be read (%s); a new session in %.0f s",
                _place_of(error),
                delay,
            )
            await _hang_up(client)
            await asyncio.sleep(delay)
            pause = min(2 * pause, _LONGEST_RETRY_S)
        else:
            return


async def _hang_up(client: discord.Client) -> None:
    """Close the line, whose heartbeats would go on; a code that keeps nobody from a new one."""
    # Until the first session there is none, whatever its type says.
    line = cast("DiscordWebSocket | None", client.ws)
    if line is not None:
        await line.close(code=4000)


def _place_of(error: Exception) -> str:
    """Return an error's kind and where it was raised.

    Not its words, which may quote what somebody wrote.
    """
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
    return f"{type(error).__name__} at {places}"
