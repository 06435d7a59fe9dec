"""`/admin`: the queue in the hands of those who run the server.

`default_permissions` only hides the commands, and a server can change it, so every command checks
again.
"""

from __future__ import annotations

import discord
from discord import app_commands

from bot.client.bot import ImageBot
from bot.words import mark
from cogs.admin.audit import AuditPageButton
from cogs.admin.blocks import BlockGroup, ChannelGroup, RuleGroup
from cogs.admin.edits import EditGroup
from cogs.admin.engines import EngineGroup
from cogs.admin.figures import FigureCommands
from cogs.admin.limits import LimitGroup
from cogs.admin.models import ModelGroup
from cogs.admin.moderation import ModerationGroup
from cogs.admin.operating import OperatingCommands
from cogs.admin.queue import EndJobMenu, EveryonePageButton
from cogs.admin.styles import StyleGroup


def admin_group(bot: ImageBot) -> app_commands.Group:
    """Return `/admin` with its commands and groups, in the order in which Discord lists them."""
    group = app_commands.Group(
        name="admin",
        description=mark("Look after the queue."),
        default_permissions=discord.Permissions(manage_guild=True),
        allowed_installs=app_commands.AppInstallationType(guild=True, user=False),
        allowed_contexts=app_commands.AppCommandContext(
            guild=True, dm_channel=True, private_channel=False
        ),
    )
    several = len(bot.services.models) > 1
    models = ModelGroup(name="model", description=mark("Who may use which model."))
    for part in (
        *FigureCommands(bot).get_app_commands(),
        BlockGroup(name="block", description=mark("Who may not use the bot.")),
        RuleGroup(name="rule", description=mark("What prompts may not say.")),
        ChannelGroup(name="channel", description=mark("Where the bot draws.")),
        EditGroup(name="edit", description=mark("Who may edit whose pictures.")),
        EngineGroup(name="engine", description=mark("The engines one by one.")),
        LimitGroup(name="limit", description=mark("What members may ask for.")),
        *([models] if several else []),
        ModerationGroup(name="moderation", description=mark("Flagged pictures, and reports.")),
        StyleGroup(name="style", description=mark("This server's own styles.")),
        *OperatingCommands(bot).get_app_commands(),
    ):
        group.add_command(part)
    return group


async def setup(bot: ImageBot) -> None:
    """Add the group, and what its messages' controls do."""
    bot.add_dynamic_items(EveryonePageButton, EndJobMenu, AuditPageButton)
    bot.tree.add_command(admin_group(bot))
