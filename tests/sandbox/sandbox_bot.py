"""A small discord.py bot that the tests of the sandbox talk to."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import discord
from discord import app_commands
from discord.ext import commands
from PIL import Image

from bot.sandbox.server import Sandbox


def png(size: tuple[int, int] = (32, 24)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 60).save(buffer, "PNG")
    return buffer.getvalue()


MINIMAL = discord.Intents(guilds=True, guild_messages=True, dm_messages=True)


class Bot(commands.Bot):
    """A plain discord.py bot; `picture` is what /draw sends, `gate` holds /draw back."""

    def __init__(self, intents: discord.Intents = MINIMAL) -> None:
        super().__init__(
            commands.when_mentioned,
            intents=intents,
            allowed_mentions=discord.AllowedMentions.none(),
            guild_ready_timeout=0.01,
        )
        self.picture = png()
        self.gate = asyncio.Event()
        self.gate.set()
        self.heard: asyncio.Queue[discord.Message] = asyncio.Queue()
        self.interactions: asyncio.Queue[discord.Interaction] = asyncio.Queue()
        self.errors: asyncio.Queue[Exception] = asyncio.Queue()
        self.resumed = asyncio.Event()
        self.tree.on_error = self.on_tree_error

    async def on_tree_error(
        self, _: discord.Interaction, error: app_commands.AppCommandError
    ) -> None:
        self.errors.put_nowait(getattr(error, "original", error))

    async def on_message(self, message: discord.Message) -> None:
        self.heard.put_nowait(message)

    async def on_interaction(self, interaction: discord.Interaction) -> None:
        self.interactions.put_nowait(interaction)

    async def on_resumed(self) -> None:
        self.resumed.set()

    def file(self) -> discord.File:
        return discord.File(io.BytesIO(self.picture), "picture.png")


class Poem(discord.ui.Modal, title="A poem"):
    line = discord.ui.TextInput(label="Line", custom_id="line", max_length=20)
    kind = discord.ui.Label(
        text="Kind",
        component=discord.ui.Select(
            custom_id="kind",
            options=[discord.SelectOption(label="Ode"), discord.SelectOption(label="Haiku")],
        ),
    )

    async def on_submit(self, interaction: discord.Interaction) -> None:
        assert isinstance(self.kind.component, discord.ui.Select)
        text = f"{self.line.value} / {self.kind.component.values[0]}"
        await interaction.response.send_message(text, ephemeral=True)


class Controls(discord.ui.View):
    def __init__(self) -> None:
        super().__init__(timeout=None)

    @discord.ui.button(label="Again", custom_id="again")
    async def again(self, interaction: discord.Interaction, _: discord.ui.Button) -> None:
        await interaction.response.edit_message(content="pressed", view=None)

    @discord.ui.button(label="Quietly", custom_id="quietly")
    async def quietly(self, interaction: discord.Interaction, _: discord.ui.Button) -> None:
        await interaction.response.defer()
        await interaction.followup.send("only you", ephemeral=True)

    @discord.ui.button(label="Off", custom_id="off", disabled=True)
    async def off(self, *_: object) -> None:
        raise AssertionError

    @discord.ui.button(label="Form", custom_id="form")
    async def form(self, interaction: discord.Interaction, _: discord.ui.Button) -> None:
        await interaction.response.send_modal(Poem())

    @discord.ui.select(
        custom_id="pick", options=[discord.SelectOption(label=x, value=x) for x in "abc"]
    )
    async def pick(self, interaction: discord.Interaction, menu: discord.ui.Select) -> None:
        await interaction.response.send_message(f"picked {menu.values[0]}")


def add_commands(bot: Bot) -> None:
    tree = bot.tree

    @tree.command()
    @app_commands.describe(prompt="What to draw", steps="How often")
    async def draw(
        interaction: discord.Interaction,
        prompt: app_commands.Range[str, 1, 100],
        steps: app_commands.Range[int, 1, 50] = 10,
        image: discord.Attachment | None = None,
    ) -> None:
        """Draw slowly."""
        await interaction.response.defer()
        await bot.gate.wait()
        await interaction.edit_original_response(content=f"drawing {steps}")
        data = await image.read() if image else bot.picture
        file = discord.File(io.BytesIO(data), "picture.png")
        await interaction.edit_original_response(
            content=prompt, attachments=[file], view=Controls()
        )

    @tree.command()
    async def whisper(interaction: discord.Interaction, text: str = "psst") -> None:
        """Answer for the caller's eyes."""
        await interaction.response.send_message(text, ephemeral=True)

    @tree.command()
    async def card(interaction: discord.Interaction, title: str) -> None:
        """Answer with an embed and its picture."""
        embed = discord.Embed(title=title).set_image(url="attachment://picture.png")
        await interaction.response.send_message(embed=embed, file=bot.file())

    @tree.command()
    async def late(interaction: discord.Interaction) -> None:
        """Answer when it is told to."""
        await bot.gate.wait()
        await interaction.response.send_message("here I am")

    @tree.command()
    async def pick(interaction: discord.Interaction, colour: str) -> None:
        """Complete a colour."""
        await interaction.response.send_message(colour)

    @pick.autocomplete("colour")
    async def colours(_: discord.Interaction, typed: str) -> list[app_commands.Choice[str]]:
        names = ("red", "green", "grey")
        return [app_commands.Choice(name=x, value=x) for x in names if x.startswith(typed)]

    @tree.context_menu(name="Shout")
    async def shout(interaction: discord.Interaction, message: discord.Message) -> None:
        await interaction.response.send_message(message.content.upper())

    admin = app_commands.Group(
        name="admin",
        description="For admins",
        default_permissions=discord.Permissions(manage_guild=True),
        guild_only=True,
    )

    @admin.command(name="queue")
    async def queue(interaction: discord.Interaction) -> None:
        """Show the queue, to those who may see it."""
        allowed = interaction.permissions.manage_guild
        await interaction.response.send_message("queue" if allowed else "denied")

    tree.add_command(admin)
    bot.add_view(Controls())


@contextlib.asynccontextmanager
async def running(sandbox: Sandbox, bot: Bot, *, sync: bool = True) -> AsyncIterator[Bot]:
    """Log `bot` in and out; leaving waits until its connection is gone."""
    await bot.login(sandbox.token)
    if sync:
        await bot.tree.sync()
    task = asyncio.create_task(bot.connect())
    try:
        async with asyncio.timeout(10):
            await bot.wait_until_ready()
        yield bot
    finally:
        await bot.close()
        with contextlib.suppress(discord.DiscordException):
            await task
