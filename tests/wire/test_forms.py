"""Forms carry their state themselves, so that they can be sent after a restart."""

from __future__ import annotations

import discord
import pytest
from discord import app_commands

from bot.client.forms import Form
from bot.messages.discord_limits import FORM_TITLE_LENGTH
from bot.words import speaking
from tests.sandbox.sandbox_bot import png
from tests.wire.kit import staged, text_of


class Survey(Form, name="survey"):
    def title(self):
        return "Survey"

    def fields(self):
        kinds = [discord.SelectOption(label="Ode"), discord.SelectOption(label="Haiku")]
        return [
            discord.ui.Label(
                text="Line", component=discord.ui.TextInput(custom_id="line", default="typed")
            ),
            discord.ui.Label(
                text="Kind", component=discord.ui.Select(custom_id="kind", options=kinds)
            ),
            discord.ui.Label(
                text="File", component=discord.ui.FileUpload(custom_id="file", required=False)
            ),
        ]

    async def submitted(self, interaction, _, values):
        name = values.files["file"][0].filename if values.files["file"] else "nothing"
        await interaction.response.send_message(
            f"{self.state}: {values.texts['line']} / {values.choices['kind']} / {name}"
        )


@app_commands.command(name="survey", description="Ask.")
async def survey(interaction: discord.Interaction) -> None:
    await Survey("a:b").open(interaction)


def add_survey(stage):
    stage.app.client.tree.add_command(survey)
    return stage.app.client.tree.sync()


async def test_a_form_can_be_sent_after_a_restart(sandbox, tmp_path):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path) as stage:
        await add_survey(stage)
        opened = await alice.slash("general", "survey")
        modal = (await opened.response()).modal
        assert modal is not None
        assert modal.title == "Survey"
        assert not stage.app.client._connection._view_store._modals
    async with staged(sandbox, tmp_path):
        sent = await alice.submit_modal(opened, {"kind": ["Ode"], "file": [("a.png", png())]})
        message = await sent.answer()
    assert message is not None
    assert text_of(message) == "a:b: typed / ['Ode'] / a.png"


async def test_a_form_of_another_version_is_answered(sandbox, tmp_path, monkeypatch):
    alice = sandbox.user("alice")
    async with staged(sandbox, tmp_path) as stage:
        await add_survey(stage)
        opened = await alice.slash("general", "survey")
        await opened.response()
        monkeypatch.delitem(Form.known, "survey")
        sent = await alice.submit_modal(opened, {"kind": ["Ode"]})
        message = await sent.answer()
    assert message is not None
    assert "older version" in text_of(message)
    assert message.ephemeral


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_titles_are_short_enough(stage, locale):
    assert stage.app.client.cogs  # which make the forms known
    with speaking(locale):
        for name, form in Form.known.items():
            assert 0 < len(form("").title()) <= FORM_TITLE_LENGTH, name
