"""`/admin audit`: what moderators and the owner did, page by page, newest first.

A page's number and filter are the whole state of its controls.
"""

from __future__ import annotations

import re
from typing import Any, Final

import discord
from typing_extensions import override

from bot.archive.audit import AuditEntry, Wanted
from bot.client.bot import ImageBot
from bot.client.controls import Control
from bot.domain.ids import SNOWFLAKE_PATTERN, is_job_id
from bot.messages.discord_limits import MESSAGE_LENGTH
from bot.messages.text import safe, shorten
from bot.words import _, mark
from cogs.admin.queue import scope

PAGE: Final = 10
ACTION_LIMIT: Final = 40
_TEXT_SHOWN: Final = 80
_NAMED: Final = re.compile(r"(?P<before>(?:(?:no )?limit of )?)(?P<kind>role|channel) (?P<id>\d+)")
# Settings that were changed, by the names under which they are stored.
_SETTINGS: Final = {
    "aspect": mark("shape"),
    "quality": mark("quality"),
    "style": mark("style"),
    "negative": mark("negative prompt"),
    "private": mark("private answers"),
    "rules": mark("prompt rules"),
    "styles": mark("styles"),
    "denied_channels": mark("closed channels"),
    "flagged_restricted": mark("flagged pictures in age-restricted channels"),
    "flagged_elsewhere": mark("flagged pictures in other channels"),
    "report_channel": mark("channel for reports"),
}
_UNSET: Final = re.compile(r"(?<=: )None pictures(?:, )?|None min(?:, )?|(?:, )?weight None")


async def audit_page(
    interaction: discord.Interaction[Any],
    bot: ImageBot,
    number: int = 0,
    actor_id: int | None = None,
    action: str | None = None,
) -> tuple[str, discord.ui.View]:
    """Return a page of the audit and its controls. Raises `NotAllowed`."""
    guild_id = await scope(interaction, bot)
    page = await bot.services.audit_log.page(Wanted(guild_id, actor_id, action), number, PAGE)
    lines = [_line(entry) for entry in page.entries]
    if guild_id is None:
        lines = [
            line if entry.guild_id is None else f"{line} · `{entry.guild_id}`"
            for line, entry in zip(lines, page.entries, strict=True)
        ]
    view = discord.ui.View(timeout=None)
    for label, emoji, way, to, on in (
        (_("Newer"), "◀️", "newer", number - 1, number > 0),
        (_("Older"), "▶️", "older", number + 1, page.older),
    ):
        view.add_item(
            discord.ui.Button[discord.ui.View](
                label=label,
                emoji=emoji,
                custom_id=f"audit:{way}:{max(0, to)}:{actor_id or 0}:{action or ''}",
                disabled=not on,
            )
        )
    view.stop()
    return shorten("\n".join(lines) or _("Nothing was done."), MESSAGE_LENGTH), view


def _line(entry: AuditEntry) -> str:
    parts = [f"<t:{entry.at:.0f}:f> <@{entry.actor_id}> **{safe(entry.action, ACTION_LIMIT)}**"]
    if entry.target:
        target = entry.target
        person = target.isdecimal() and entry.action in {"block", "unblock"}
        shown = f"`{target}`" if is_job_id(target) else safe(target, _TEXT_SHOWN)
        parts.append(f"<@{target}>" if person else shown)
    if entry.detail:
        parts.append(_readable(entry.detail, entry.guild_id))
    return " · ".join(parts)


def _readable(detail: str, guild_id: int | None) -> str:
    """Return a detail with names for settings, its role or channel, and without what was not set.

    Entries of earlier versions say `None` of that.
    """
    names = detail.split(", ")
    if all(name in _SETTINGS for name in names):
        return ", ".join(_(_SETTINGS[name]) for name in names)
    detail = _UNSET.sub("", " ".join(detail.split())).strip(" ,")
    if detail.endswith(":"):
        detail = f"{detail} none"
    if found := _NAMED.match(detail):
        mention = f"<{'@&' if found['kind'] == 'role' else '#'}{found['id']}>"
        if found["kind"] == "role" and found["id"] == str(guild_id):
            mention = "@everyone"
        rest = safe(detail[found.end() :], _TEXT_SHOWN)
        return f"{safe(found['before'], _TEXT_SHOWN)}{mention}{rest}"
    return safe(detail, _TEXT_SHOWN)


class AuditPageButton(
    Control,
    template=(
        rf"audit:(?:newer|older):(?P<page>\d{{1,6}}):(?P<actor>{SNOWFLAKE_PATTERN}):"
        r"(?P<action>[\s\S]*)"
    ),
):
    """Turns to newer or older entries."""

    @override
    async def used(self, interaction: discord.Interaction[Any], bot: ImageBot) -> None:
        content, view = await audit_page(
            interaction,
            bot,
            int(self.state["page"]),
            int(self.state["actor"]) or None,
            self.state["action"] or None,
        )
        await interaction.response.edit_message(content=content, view=view)
