"""Crowd of `bench response`: a sandbox and its users, in a process of their own.

It writes JSON lines to stdout: the address, each login of a bot, and the result. It starts
at a line on stdin.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from typing import Any, Final

from bot.sandbox import gateway
from bot.sandbox.model import Message, Progress
from bot.sandbox.people import Invocation, NoResponse, Person
from bot.sandbox.server import Sandbox

_USERS: Final = ("alice", "bob", "chen", "mallory")
# What is used under finished pictures: on which of them, the beginning of its id, and what is
# chosen where it is a menu. `made` was varied from another; labels are in their user's language.
_CONTROLS: Final[dict[str, tuple[str, str, str | None]]] = {
    "reroll": ("made", "reroll:", None),
    "vary": ("made", "vary:", None),
    "edit": ("made", "instruct:", None),
    "remix": ("made", "edit:", None),
    "upscale": ("made", "upscale:", None),
    "details": ("made", "details:", None),
    "zoom out": ("made", "more:", "zoom15"),
    "pan": ("made", "more:", "panright"),
    "undo": ("made", "more:", "undo"),
    "U of a grid": ("grid", "upscale:", None),
    "V of a grid": ("grid", "vary:", None),
    "take out of a grid": ("grid", "pick:", None),
}
# Pauses are exponential, so that presses overlap as independent people's do.
_MEAN_PAUSE_S: Final = 0.25
_PATIENCE_S: Final = 3600.0
_LOOK_S: Final = 0.2


def _tell(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


async def _press_on(sandbox: Sandbox, name: str, count: int, times: list[float]) -> int:
    """Ask `count` times; return how often nothing came back."""
    user, lost = sandbox.user(name), 0
    for number in range(count):
        await asyncio.sleep(random.expovariate(1 / _MEAN_PAUSE_S))
        invocation = await user.slash("general", "imagine", prompt=f"picture {number} for {name}")
        try:
            await invocation.response()
            times.append(invocation.interaction.response_seconds)
        except NoResponse:
            lost += 1
    return lost


async def _press_buttons(sandbox: Sandbox, count: int) -> dict[str, Any]:
    """Use the controls under finished pictures by turns, and wait for what people see.

    What is seen is a first response: a message, a form, the picture's details, or of what takes a
    picture from the disk (undo, take out) that the bot is at it.
    """
    alice = sandbox.user("alice")
    asked = await alice.slash("general", "imagine", prompt="a house", aspect="1:1")
    first = await asked.until(_has_ended, timeout=_PATIENCE_S)
    varied = await alice.press(first, _control(first, "vary:"))
    asked = await alice.slash("general", "imagine", prompt="boats", aspect="1:1", count=4)
    pictures = {
        "made": await varied.until(_has_ended, timeout=_PATIENCE_S),
        "grid": await asked.until(_has_ended, timeout=_PATIENCE_S),
    }
    by: dict[str, list[float]] = {name: [] for name in _CONTROLS}

    async def press(user: Person, first: int) -> int:
        missed = 0
        for turn in range(first, count, len(_USERS)):
            await asyncio.sleep(random.expovariate(1 / _MEAN_PAUSE_S))
            name, (where, begin, value) = list(_CONTROLS.items())[turn % len(_CONTROLS)]
            shown = pictures[where]
            custom_id = _control(shown, begin)
            try:
                if value is None:
                    used = await user.press(shown, custom_id)
                else:
                    used = await user.select(shown, custom_id, value)
                await used.response()
                by[name].append(used.interaction.response_seconds)
            except NoResponse:
                missed += 1
        return missed

    lost = await asyncio.gather(
        *(press(sandbox.user(name), first) for first, name in enumerate(_USERS))
    )
    return {"seconds": [one for times in by.values() for one in times], "by": by, "lost": sum(lost)}


def _control(picture: Message, begin: str) -> str:
    """Return the id of the first control that begins so."""
    ids = (str(control.get("custom_id")) for control in picture.controls)
    return next(custom_id for custom_id in ids if custom_id.startswith(begin))


async def _report_logins(sandbox: Sandbox) -> None:
    while True:
        await sandbox.ready(timeout=600)
        _tell(event="online")
        await sandbox.wait(lambda: not sandbox.gateway.connected, timeout=3600)


async def _queue_up(sandbox: Sandbox, count: int, quality: str) -> dict[str, Any]:
    """Have one user ask for most of `count` pictures and two others for the rest; wait for all."""
    others = count // 5
    wishes = ["alice"] * (count - 2 * others) + ["bob", "chen"] * others
    invocations: list[Invocation] = []
    for number, name in enumerate(wishes):
        person = sandbox.user(name)
        invocation = await person.slash(
            "general", "imagine", prompt=f"boat {number}", quality=quality
        )
        await invocation.response()
        invocations.append(invocation)
    order: list[str] = []
    pictures = 0

    async def wait(name: str, invocation: Invocation) -> None:
        nonlocal pictures
        message = await invocation.until(_has_ended, timeout=_PATIENCE_S)
        order.append(name)
        pictures += bool(message.files)

    await asyncio.gather(*map(wait, wishes, invocations))
    times = [invocation.interaction.response_seconds for invocation in invocations]
    return {"seconds": times, "order": order, "pictures": pictures}


def _has_ended(message: Message) -> bool:
    return any(str(item.get("custom_id")).startswith("reroll:") for item in message.controls)


async def _press_all(sandbox: Sandbox, count: int) -> dict[str, Any]:
    times: list[float] = []
    share = count // len(_USERS)
    lost = await asyncio.gather(*(_press_on(sandbox, name, share, times) for name in _USERS))
    return {"seconds": times, "lost": sum(lost)}


async def _burst(sandbox: Sandbox, count: int, within_s: float, before: int) -> dict[str, Any]:
    """Have `before` pictures drawn; at the word, ask `count` times within some seconds.

    At the next word the same again, four times as fast, without waiting for anything.

    Nobody waits for an answer before asking again. The answers are looked through at the end of
    each fifth of a second: a waiter for each would cost this process more than the bot.
    """

    async def ask(number: int) -> Invocation:
        name = _USERS[number % len(_USERS)]
        return await sandbox.user(name).slash("general", "imagine", prompt=f"picture {number}")

    first = [await ask(number) for number in range(before)]
    for invocation in first:
        await invocation.response()
    _tell(event="waiting")
    for invocation in first:
        await invocation.until(_has_ended, timeout=_PATIENCE_S)
    _tell(event="drawn")
    await asyncio.to_thread(sys.stdin.readline)
    asked: list[Invocation] = []

    async def ask_all(seconds: float) -> None:
        began = asyncio.get_running_loop().time()
        for number in range(count):
            late = began + number * seconds / count - asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, late))
            asked.append(await ask(number))

    await ask_all(within_s)
    while any(_undecided(one) for one in asked):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    answered = [one.interaction for one in asked if one.interaction.callback is not None]
    result = {
        "seconds": [interaction.response_seconds for interaction in answered],
        "lost": count - len(answered),
    }
    _tell(event="decided", **result)
    await asyncio.to_thread(sys.stdin.readline)
    await ask_all(within_s / 4)
    return {}


def _undecided(invocation: Invocation) -> bool:
    """Tell whether the user does not know yet if the request is accepted."""
    waiting = invocation.interaction.progress is Progress.PENDING
    return waiting or bool(invocation.message and invocation.message.thinking)


async def crowd(
    count: int,
    quality: str | None,
    *,
    buttons: bool = False,
    within_s: float | None = None,
    before: int = 0,
) -> None:
    """Serve a sandbox, wait for the word, press, report."""
    async with Sandbox() as sandbox:
        _tell(event="address", api_url=sandbox.api_url)
        logins = asyncio.create_task(_report_logins(sandbox))
        await asyncio.to_thread(sys.stdin.readline)
        if buttons:
            result = await _press_buttons(sandbox, count)
        elif within_s is not None:
            result = await _burst(sandbox, count, within_s, before)
        elif quality is None:
            result = await _press_all(sandbox, count)
        else:
            result = await _queue_up(sandbox, count, quality)
        _tell(event="result", **result)
        # A word, or the end of the benchmark's process.
        await asyncio.to_thread(sys.stdin.readline)
        logins.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--quality", help="ask for pictures of it at once, and wait for all")
    parser.add_argument("--buttons", action="store_true", help="press buttons instead of asking")
    parser.add_argument("--within", type=float, help="ask `count` times within so many seconds")
    parser.add_argument("--before", type=int, default=0, help="pictures before a burst")
    options = parser.parse_args()
    # Discord's 41 s would give two or three samples of the heartbeat's latency.
    gateway.HEARTBEAT_MS = 1000
    asyncio.run(
        crowd(
            options.count,
            options.quality,
            buttons=options.buttons,
            within_s=options.within,
            before=options.before,
        )
    )
