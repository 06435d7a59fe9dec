"""Every command, by every kind of person and in every place: made from the tree itself."""

from __future__ import annotations

import discord
import pytest

from bot.sandbox.errors import Refusal
from bot.sandbox.scene import ADMIN_ROLE_ID, GUILD_ID
from tests.engine.test_inputs import BAD
from tests.sandbox.sandbox_bot import png
from tests.wire.kit import text_of

pytestmark = pytest.mark.slow

PLACES = ("general", "sketches", "dm", "friends", "lounge")


def leaves(command, path=""):
    """The commands below one, by what is typed."""
    name = f"{path} {command.name}".strip()
    children = getattr(command, "commands", None)
    if children is None:
        yield name, command
    for child in children or ():
        yield from leaves(child, name)


def slash_commands(stage):
    kind = discord.AppCommandType.chat_input
    return stage.app.client.tree.get_commands(type=kind)


def filled(command, alice) -> dict[str, object]:
    """A value for each required option."""
    values: dict[str, object] = {}
    for parameter in command.parameters:
        if not parameter.required:
            continue
        kind = parameter.type.name
        if kind == "user":
            values[parameter.name] = alice.id
        elif kind == "channel":
            values[parameter.name] = alice.place("art").id
        elif kind == "role":
            values[parameter.name] = GUILD_ID
        elif kind == "attachment":
            values[parameter.name] = ("a.png", png())
        elif parameter.choices:
            values[parameter.name] = parameter.choices[0].value
        else:
            values[parameter.name] = "nothing"
    return values


async def said(invocation) -> str:
    """What the user gets: words, or the title of a form."""
    response = await invocation.response()
    if response.modal is not None:
        return response.modal.title
    message = response.message if not response.deferred else await invocation.answer()
    return text_of(message) or str(message.embeds[0].get("title"))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["bob", "mallory"])
async def test_members_use_what_is_theirs_and_nothing_of_the_admins(stage, name, place):
    person, alice = stage.sandbox.user(name), stage.sandbox.user("alice")
    walked = 0
    for command in slash_commands(stage):
        for path, leaf in leaves(command):
            options = filled(leaf, alice)
            try:
                text = await said(await person.slash(place, path, force=True, **options))
            except Refusal as refusal:
                assert refusal.status == 404, path  # noqa: PT017 - not a member there
                continue
            assert text, path
            assert "Something went wrong" not in text, path
            if path.startswith("admin"):
                assert "Only" in text or "does not fit" in text, (path, text)
            walked += 1
    assert walked or place in {"friends", "lounge"}
    audited = await stage.database.read(lambda tx: tx.value("SELECT count(*) FROM audit"))
    assert audited == 0


@pytest.mark.parametrize("place", ["general", "art"])
@pytest.mark.parametrize("name", ["bob", "mallory"])
async def test_every_menu_of_a_message_answers_whoever_uses_it(stage, name, place):
    """On pictures of the bot's, shown and deleted ones; on a text, on files that are no pictures."""
    person, alice = stage.sandbox.user(name), stage.sandbox.user("alice")
    own = await stage.outcome(await stage.imagine("alice", "a house", place))
    files = [("a.png", data) for data in (png(), BAD["bomb"], BAD["truncated"])]
    targets = [own, await alice.send(place, "only words")]
    targets += [await alice.send(place, "look", [file]) for file in files]
    gone = await stage.outcome(await stage.imagine("alice", "another house", place))
    await stage.app.client.services.gallery.delete(await stage.job_of(gone), by=alice.id)
    targets.append(gone)
    tree = stage.app.client.tree
    assert not tree.get_commands(type=discord.AppCommandType.user), "walk these too"
    menus = tree.get_commands(type=discord.AppCommandType.message)
    assert len(menus) >= 4
    jobs = "SELECT id, state, deleted_at FROM jobs WHERE user_id = ?"
    before = await stage.database.read(lambda tx: tx.all(jobs, (alice.id,)))
    for menu in menus:
        for number, target in enumerate(targets):
            used = await person.context_menu(place, menu.name, target, force=True)
            text = await said(used)
            assert text, (menu.name, number)
            assert "Something went wrong" not in text, (menu.name, number)
    after = await stage.database.read(lambda tx: tx.all(jobs, (alice.id,)))
    assert list(map(tuple, after)) == list(map(tuple, before))


async def test_admins_may_use_all_but_what_is_the_owners(stage):
    alice = stage.sandbox.user("alice")
    for command in slash_commands(stage):
        for path, leaf in leaves(command):
            text = await said(await alice.slash("general", path, **filled(leaf, alice)))
            assert "Something went wrong" not in text, path
            assert "Manage Server" not in text, path


async def test_a_servers_admin_may_use_nothing_of_the_owners(stage):
    bob = stage.sandbox.user("bob")
    stage.sandbox.world.guild.members[bob.id].roles.append(ADMIN_ROLE_ID)
    owners = []
    for command in slash_commands(stage):
        for path, leaf in leaves(command):
            text = await said(await bob.slash("general", path, **filled(leaf, bob)))
            assert "Something went wrong" not in text, path
            assert "Manage Server" not in text, path
            if "Only the bot's owner" in text:
                owners.append(path)
    assert {"admin reload", "admin sync"} <= set(owners)
    assert all(path.startswith("admin") for path in owners)
