"""`/admin model`: which roles of a server may use which models."""

from __future__ import annotations

from functools import partial

import discord
from discord import app_commands

from bot.catalogue.models import ModelSpec
from bot.catalogue.offered import find_offered
from bot.client.bot import ImageBot
from bot.client.command_options import model_choices
from bot.errors import InvalidRequest
from bot.messages.discord_limits import CHOICE_LENGTH, MESSAGE_LENGTH
from bot.messages.text import roles_named, shorten
from bot.rules.model_rules import ModelRules
from bot.rules.server_edits import with_model_denied, with_model_role, without_model_rule
from bot.words import _, mark

ModelName = app_commands.Range[str, 1, CHOICE_LENGTH]


def _offered(interaction: discord.Interaction[ImageBot], text: str) -> ModelSpec:
    """Return the model that is meant; raise `InvalidRequest` that lists them."""
    models = interaction.client.services.models
    found = find_offered(models, text)
    if found is None:
        raise InvalidRequest(
            _("There is no model of that name; there are: {known}.").format(
                known=", ".join(f"`{spec.name}`" for spec in models)
            )
        )
    return found


def _describe(rules: ModelRules, model: str, guild_id: int) -> str:
    roles = rules.roles.get(model)
    if roles is None:
        who = _("everyone")
    elif not roles:
        who = _("nobody")
    else:
        who = roles_named(roles, guild_id)
    return _("`{model}`: {who}").format(model=model, who=who)


async def _answer(interaction: discord.Interaction[ImageBot], guild_id: int, model: str) -> None:
    """Say who may use a model now."""
    rules = await interaction.client.services.preferences.model_rules(guild_id)
    sentence = _describe(rules, model, guild_id)
    await interaction.response.send_message(shorten(sentence, MESSAGE_LENGTH), ephemeral=True)


class ModelGroup(app_commands.Group):
    """`/admin model`, where there are several."""

    @app_commands.command(
        name="allow", description=mark("Keep a model for a role; further roles may be added.")
    )
    @app_commands.describe(model=mark("Which model."), role=mark("Who may use it."))
    async def allow(
        self, interaction: discord.Interaction[ImageBot], model: ModelName, role: discord.Role
    ) -> None:
        """Allow a role a model, which then is for the named roles alone."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        name = _offered(interaction, model).name
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(with_model_role, model=name, role_id=role.id),
            by=interaction.user.id,
            detail=f"model {name} for role {role.id}",
        )
        await _answer(interaction, guild_id, name)

    @app_commands.command(name="deny", description=mark("Let nobody here use a model."))
    @app_commands.describe(model=mark("Which model."))
    async def deny(self, interaction: discord.Interaction[ImageBot], model: ModelName) -> None:
        """Let nobody use a model, whatever was allowed before."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        name = _offered(interaction, model).name
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(with_model_denied, model=name),
            by=interaction.user.id,
            detail=f"model {name} for nobody",
        )
        await _answer(interaction, guild_id, name)

    @app_commands.command(
        name="remove", description=mark("Forget a role of a model, or all that is set about it.")
    )
    @app_commands.describe(
        model=mark("Which model."),
        role=mark("Which role; left out, everyone may use the model again."),
    )
    async def remove(
        self,
        interaction: discord.Interaction[ImageBot],
        model: ModelName,
        role: discord.Role | None = None,
    ) -> None:
        """Take a role's leave away; without roles the model is for everyone again."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        name = _offered(interaction, model).name
        role_id = None if role is None else role.id
        await bot.services.preferences.edit_guild(
            guild_id,
            partial(without_model_rule, model=name, role_id=role_id),
            by=interaction.user.id,
            detail=f"model {name}: no rule" + (f" for role {role_id}" if role_id else ""),
        )
        await _answer(interaction, guild_id, name)

    @app_commands.command(name="list", description=mark("Show who may use which model here."))
    async def show(self, interaction: discord.Interaction[ImageBot]) -> None:
        """List the offered models, each with who may use it."""
        bot = interaction.client
        guild_id = await bot.permissions.moderated_server(interaction)
        rules = await bot.services.preferences.model_rules(guild_id)
        lines = [_describe(rules, spec.name, guild_id) for spec in bot.services.models]
        await interaction.response.send_message(
            shorten("\n".join(lines), MESSAGE_LENGTH), ephemeral=True
        )

    @allow.autocomplete("model")
    @deny.autocomplete("model")
    @remove.autocomplete("model")
    async def _models(
        self, interaction: discord.Interaction[ImageBot], current: str
    ) -> list[app_commands.Choice[str]]:
        return model_choices(interaction.client.services.models, current)
