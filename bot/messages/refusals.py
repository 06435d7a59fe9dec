"""Refusals in Discord's words: times as marks that it shows, and the commands that help."""

from __future__ import annotations

from bot.errors import UserError
from bot.messages.command_mentions import linked
from bot.messages.text import relative, roles_named
from bot.rules.refusals import ModelRefused, OpenJobsReached
from bot.rules.wording import worded
from bot.words import _, ngettext


def spoken(error: UserError) -> str:
    """Return the sentence of an error in the language that is spoken here."""
    if isinstance(error, OpenJobsReached):
        sentence = ngettext(
            "You already have {count} job waiting or running; that is the limit. Cancel one "
            "with /queue, or wait until one is done.",
            "You already have {count} jobs waiting or running; that is the limit. Cancel one "
            "with /queue, or wait until one is done.",
            error.limit,
        )
        return linked(sentence).format(count=error.limit)
    if isinstance(error, ModelRefused) and error.roles:
        return _("In this server the model {model} is for: {roles}.").format(
            model=error.model, roles=roles_named(error.roles)
        )
    return worded(error, relative)
