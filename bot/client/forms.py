"""Forms (modals) that can be sent after a restart.

discord.py keeps an open modal in memory and drops what comes back for one that it does not know:
whoever typed for ten minutes while the bot was updated would lose the text. Here a form's whole
state is its `custom_id`, `form:name:state`, and a listener finds the class by the name. A state
that is too long for that lies in the database for a day, and the `custom_id` holds its key.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final

import discord

from bot.client.bot import ImageBot
from bot.domain.ids import new_job_id
from bot.domain.request import PROMPT_LIMIT
from bot.errors import InvalidRequest
from bot.messages.discord_limits import CUSTOM_ID_LENGTH
from bot.words import _
from storage import form_states

PREFIX: Final = "form"
KEPT: Final = "~"
"""What a state in a `custom_id` begins with where the state itself lies in the database."""
_LINE: Final = 100


@dataclass(frozen=True, slots=True)
class FormValues:
    """What was filled in, by the fields' `custom_id`s."""

    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    files: Mapping[str, Sequence[discord.Attachment]] = field(
        default_factory=dict[str, Sequence[discord.Attachment]]
    )


def menu_field(
    custom_id: str,
    label: str,
    options: Sequence[discord.SelectOption],
    *,
    usual: str | None = None,
) -> discord.ui.Label[Any]:
    """Return a field to choose one of the options or none, where `usual` says what counts."""
    menu = discord.ui.Select[Any](
        custom_id=custom_id, options=list(options), required=False, placeholder=usual
    )
    return discord.ui.Label(text=label, component=menu)


def text_field(
    custom_id: str,
    label: str,
    default: str = "",
    *,
    required: bool = True,
    about: str | None = None,
    longest: int = PROMPT_LIMIT,
) -> discord.ui.Label[Any]:
    """Return a field for text, of many lines where it may be long."""
    style = discord.TextStyle.long if longest > _LINE else discord.TextStyle.short
    field = discord.ui.TextInput[Any](
        custom_id=custom_id, style=style, default=default, required=required, max_length=longest
    )
    return discord.ui.Label(text=label, description=about, component=field)


class Form(ABC):
    """A form; a subclass names itself (`class Edit(Form, name="edit")`) and shows its fields.

    `state` is all that is known when it comes back; it holds no colon that the subclass does not
    expect, and does not begin with `KEPT`.
    """

    name: ClassVar[str]
    known: ClassVar[dict[str, type[Form]]] = {}

    def __init_subclass__(cls, *, name: str) -> None:
        cls.name = name
        Form.known[name] = cls

    def __init__(self, state: str = "") -> None:
        self.state = state

    @abstractmethod
    def title(self) -> str:
        """Return the title, at most `FORM_TITLE_LENGTH` characters."""

    @abstractmethod
    def fields(self) -> Sequence[discord.ui.Label[Any]]:
        """Return the one to five fields, each a component with a `custom_id` in its label."""

    @abstractmethod
    async def submitted(
        self, interaction: discord.Interaction[Any], bot: ImageBot, values: FormValues
    ) -> None:
        """Do what the form is for. What it raises is answered like a command's error."""

    async def open(self, interaction: discord.Interaction[Any]) -> None:
        """Show the form; it has to be the interaction's first response."""
        custom_id = f"{PREFIX}:{self.name}:{self.state}"
        if len(custom_id) > CUSTOM_ID_LENGTH:
            custom_id = f"{PREFIX}:{self.name}:{await _kept(interaction, self.state)}"
        modal = discord.ui.Modal(title=self.title(), timeout=None, custom_id=custom_id)
        for item in self.fields():
            modal.add_item(item)
        modal.stop()  # So that discord.py does not keep it in memory.
        await interaction.response.send_modal(modal)


async def _kept(interaction: discord.Interaction[Any], state: str) -> str:
    """Keep a state in the database; return what leads to it."""
    bot: ImageBot = interaction.client
    now = time.time()
    key = new_job_id(now)
    await bot.services.database.write(
        partial(form_states.keep, key=key, user_id=interaction.user.id, state=state, now=now),
        first=True,  # A form cannot be deferred.
    )
    return f"{KEPT}{key}"


async def state_of(interaction: discord.Interaction[Any], state: str) -> str:
    """Return the state of a form that came back; raise `InvalidRequest` where it is gone."""
    if not state.startswith(KEPT):
        return state
    bot: ImageBot = interaction.client
    key = state.removeprefix(KEPT)
    found = await bot.services.database.read(
        partial(form_states.find, key=key, user_id=interaction.user.id)
    )
    if found is None:
        raise unreadable()
    return found


def unreadable() -> InvalidRequest:
    """Return what a form raises whose state cannot be read."""
    return InvalidRequest(_("This form can no longer be read; please open it anew."))


def form_values(interaction: discord.Interaction[Any]) -> FormValues:
    """Return what was filled in."""
    data: Mapping[str, Any] = interaction.data or {}
    texts: dict[str, str] = {}
    choices: dict[str, Sequence[str]] = {}
    files: dict[str, Sequence[discord.Attachment]] = {}
    attached: Mapping[str, Any] = (data.get("resolved") or {}).get("attachments") or {}
    for row in data.get("components") or ():
        for item in (row["component"],) if "component" in row else row.get("components") or ():
            name = str(item.get("custom_id"))
            if "value" in item:
                texts[name] = str(item["value"])
            elif item.get("type") == discord.ComponentType.file_upload.value:
                state: Any = interaction._state  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
                files[name] = [
                    discord.Attachment(data=attached[key], state=state) for key in item["values"]
                ]
            else:
                choices[name] = [str(value) for value in item.get("values") or ()]
    return FormValues(texts, choices, files)
