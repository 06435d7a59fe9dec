"""Where a message's picture may be, and how one is known that has no label."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.wire.kit import staged
from tests.wire.test_pictures_in import last_input, png


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a.png", None),
        ("photo", "application/octet-stream"),
        ("photo.jpg_large", "Application/Octet-Stream; charset=binary"),
    ],
)
async def test_a_picture_is_known_by_its_header_where_its_label_says_nothing(stage, name, label):
    label_files(stage, label)
    data = png()
    await stage.outcome(await stage.imagine("bob", "in oil", image=(name, data)))
    assert last_input(stage) == data
    bob = stage.sandbox.user("bob")
    await bob.send("dm", "in ink", [(name, data)])
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    assert last_input(stage) == data
    message = await stage.sandbox.user("alice").send("general", "", [(name, data)])
    opened = await bob.context_menu("general", "Use as input", message)
    await opened.response()
    form = {"prompt": "in chalk", "strength": "0.5"}
    await stage.outcome(await bob.submit_modal(opened, form))
    assert last_input(stage) == data
    assert await stage.jobs_made() == 3


def label_files(stage, label: str | None) -> None:
    """Let the sandbox label all files alike."""
    add = stage.sandbox.world.add_file

    def labelled(*args, **values):
        file = replace(add(*args, **values), content_type=label)
        stage.sandbox.world.files[file.id] = file
        return file

    stage.sandbox.world.add_file = labelled


async def test_a_labelled_picture_goes_before_files_of_no_kind(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    data = png(texts={"parameters": "a cat\nSteps: 20, Seed: 7"})
    files = [("notes.bin", b"x" * 100), ("a.png", data)]
    for where in (
        await alice.send("general", "look", files),
        await alice.forward(await alice.send("general", "look", files), "art"),
    ):
        menu = await bob.context_menu(where.channel, "Show parameters", where)
        assert "Seed: 7" in (await menu.until(lambda m: bool(m.content))).content
    bare = await alice.send("general", "", files[:1])
    menu = await bob.context_menu("general", "Show parameters", bare)
    answer = await menu.until(lambda m: bool(m.content))
    assert "not a picture that I know" in answer.content


async def test_a_forwarded_picture_is_taken_by_the_menus(stage):
    alice, bob, data = stage.sandbox.user("alice"), stage.sandbox.user("bob"), png((160, 90))
    forwarded = await alice.forward(await alice.send("general", "look", [("a.png", data)]), "art")
    assert not forwarded.content
    assert not forwarded.files
    opened = await bob.context_menu("art", "Use as input", forwarded)
    form = {"prompt": "in oil", "strength": "0.4"}
    assert (await opened.response()).modal
    job = await stage.job_of(await stage.outcome(await bob.submit_modal(opened, form)))
    assert (last_input(stage), job.request.aspect) == (data, "7:4")
    # What a gallery shows, of the bot's own answer too, is forwarded with it.
    drawn = await stage.outcome(await stage.imagine("alice", "a fish"))
    again = await alice.forward(drawn, "art")
    menu = await bob.context_menu("art", "Show parameters", again)
    answer = await menu.until(lambda m: bool(m.content))
    assert "a fish" in answer.content


@pytest.fixture
async def editing(sandbox, tmp_path):
    async with staged(sandbox, tmp_path / "data", image_models="tiny-edit") as running:
        yield running


async def test_a_forward_in_a_direct_message_is_answered_and_taken_by_a_reply(editing):
    stage = editing
    bob, data = stage.sandbox.user("bob"), png()
    forwarded = await bob.forward(await bob.send("general", "look", [("a.png", data)]), "dm")
    words = await bob.forward(await bob.send("general", "only words"), "dm")
    await stage.sandbox.wait(
        lambda: (
            {
                "Reply to the forwarded message with what to make of its picture.",
                "A forwarded message has no words of yours; send the prompt as a message.",
            }
            <= {m.content for m in bob.messages("dm")}
        )
    )
    assert await stage.jobs_made() == 0
    await bob.send("dm", "in oil", reply_to=forwarded)
    await stage.sandbox.wait(lambda: stage.visible("bob", "dm"))
    assert stage.engine.references[stage.engine.requests[-1].job_id] == [data]
    await bob.send("dm", "a house", reply_to=words)
    await stage.sandbox.wait(lambda: len(stage.visible("bob", "dm")) == 2)
    assert not stage.engine.requests[-1].references


def preview(url: str, proxy: str) -> dict:
    """Return the embed that Discord makes of a link to a picture."""
    media = {"url": url, "proxy_url": proxy, "width": 8, "height": 8, "flags": 0}
    return {"type": "image", "url": url, "thumbnail": media}


def container(*urls: str) -> list[dict]:
    """Return components that show pictures, as another bot sends them."""
    items = [{"media": {"url": url, "proxy_url": url}} for url in urls]
    return [{"type": 17, "id": 1, "components": [{"type": 12, "id": 2, "items": items}]}]


async def test_a_link_s_preview_and_components_show_pictures_too(stage):
    alice, bob = stage.sandbox.user("alice"), stage.sandbox.user("bob")
    data = png(texts={"parameters": "a cat\nSteps: 20, Seed: 7"})
    kept = (await alice.send("art", "", [("a.png", data)])).files[0].url
    far = "https://example.org/a.png"
    shown = "Seed: 7"
    outside = "not hosted by Discord"
    for change, words in (
        ({"embeds": [preview(far, kept)]}, shown),
        ({"embeds": [preview(kept, kept)]}, shown),
        ({"embeds": [preview(far, far)]}, outside),
        ({"embeds": [{"type": "rich", "thumbnail": {"url": kept}}]}, "no picture attached"),
        ({"components": container(kept)}, shown),
        ({"components": container(far, kept)}, shown),
        ({"components": container(far)}, outside),
    ):
        message = await alice.send("general", "look")
        for name, value in change.items():
            setattr(message, name, value)
        for where in (message, await alice.forward(message, "art")):
            menu = await bob.context_menu(where.channel, "Show parameters", where)
            assert words in (await menu.until(lambda m: bool(m.content))).content, change
