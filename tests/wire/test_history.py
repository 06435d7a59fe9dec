"""/history and /show over the wire: pages, filter, opening one, after a restart too."""

from __future__ import annotations

import pytest

from bot.catalogue.models import find_model
from bot.words import speaking
from cogs.help import help_text
from tests.wire.kit import controls, is_outcome, job_id_of, staged, text_of


def labels(message) -> list[str]:
    return [str(item.get("label") or item.get("placeholder")) for item in message.controls]


async def draw(stage, name, *prompts):
    return [await stage.outcome(await stage.imagine(name, prompt)) for prompt in prompts]


@pytest.mark.slow
async def test_pages_of_ones_own_pictures(sandbox, tmp_path):
    bob = sandbox.user("bob")
    async with staged(sandbox, tmp_path) as stage:
        await draw(stage, "bob", *(f"picture {n}" for n in range(8)))
        await draw(stage, "alice", "not bob's")
        shown = await bob.slash("general", "history")
        page = await shown.until(lambda m: bool(m.files))
        assert page.ephemeral
        lines = page.content.splitlines()[1:]
        assert [f"picture {7 - n}" in line for n, line in enumerate(lines)] == [True] * 6
        assert "not bob's" not in page.content
        newer, older = (c for c in page.controls if c["type"] == 2)
        assert (newer["disabled"], older["disabled"]) == (True, False)
    async with staged(sandbox, tmp_path) as stage:
        turned = await bob.press(page, "Older")
        await turned.until(lambda m: "picture 0" in m.content)
        assert "picture 2" not in page.content
        newer, older = (c for c in page.controls if c["type"] == 2)
        assert (newer["disabled"], older["disabled"]) == (False, True)
        turned = await bob.press(page, "Newer")
        await turned.until(lambda m: "picture 7" in m.content)
        opened = await bob.select(page, "open:history", page.controls[0]["options"][1]["value"])
        one = await opened.until(lambda m: bool(m.files))
        assert one.ephemeral
        assert "picture 6" in text_of(one)
        assert "Reroll" in labels(one)


async def test_a_page_whose_pictures_were_deleted_shows_the_newest(stage):
    bob = stage.sandbox.user("bob")
    oldest, *_ = await draw(stage, "bob", *(f"picture {n}" for n in range(7)))
    page = await (await bob.slash("general", "history")).until(lambda m: bool(m.files))
    await bob.press(oldest, "Delete")
    await stage.sandbox.wait(lambda: oldest.deleted)
    turned = await bob.press(page, "Older")
    await turned.response()
    await turned.until(lambda m: bool(m.edited) and "picture 6" in m.content)
    assert "no pictures yet" not in page.content


async def test_pages_are_bounded_by_the_index(stage):
    async def plan(tx):
        rows = await tx.all(
            "EXPLAIN QUERY PLAN SELECT id FROM jobs WHERE user_id = 1 AND (created_at, id) <"
            " ((SELECT created_at FROM jobs WHERE id = 'x'), 'x')"
            " ORDER BY created_at DESC, id DESC LIMIT 7"
        )
        return " ".join(str(row["detail"]) for row in rows)

    assert "jobs_user (user_id=? AND created_at<?)" in await stage.database.read(plan)


async def test_the_filter_takes_what_is_typed_literally(stage):
    await draw(stage, "bob", "100% cotton", "100 cottons", "FISH: a:b", "一条鱼")
    bob = stage.sandbox.user("bob")
    for text, found in (("0% c", 1), ("fish: a", 1), ("鱼", 1), ("cotton", 2), ("_", 0)):
        shown = await bob.slash("general", "history", text=text)
        page = await shown.until(lambda m: bool(m.content))
        assert len(page.content.splitlines()) - 1 == found, text
        assert all(len(custom_id) <= 100 for custom_id in controls(page))
    assert "None of your pictures" in page.content


async def test_deleted_pictures_are_left_out(stage):
    first, second = await draw(stage, "bob", "one", "two")
    bob = stage.sandbox.user("bob")
    await bob.press(first, "Delete")
    await stage.sandbox.wait(lambda: first.deleted)
    page = await (await bob.slash("general", "history")).until(lambda m: bool(m.content))
    assert "two" in page.content
    assert "one" not in page.content.splitlines()[1]
    offered = await bob.autocomplete("general", "show", "job", job="")
    assert [choice["value"] for choice in offered] == [job_id_of(second)]
    mallory = await stage.sandbox.user("mallory").autocomplete("general", "show", "job", job="")
    assert mallory == []


async def test_a_batch_is_shown_with_all_its_files(stage):
    message = await stage.outcome(await stage.imagine("bob", "a fish", count=3))
    shown = await stage.sandbox.user("bob").slash("general", "show", job=job_id_of(message))
    again = await shown.until(lambda m: bool(m.files))
    assert [file.filename[-6:] for file in again.files] == ["_0.png", "_1.png", "_2.png"]


async def test_help_fits_and_names_the_commands(stage):
    answer = await (await stage.sandbox.user("bob").slash("dm", "help")).answer()
    assert len(answer.content) <= 2000
    for command in ("/imagine", "/queue", "/history", "/show", "/settings"):
        assert command in answer.content


@pytest.mark.parametrize(
    ("name", "language", "last"),
    [
        ("Qwen/Qwen-Image", "en", "Drawn by Qwen/Qwen-Image."),
        ("Qwen/Qwen-Image-2.1", "en", "⚠️ The model's licence allows no commercial use."),
        ("Qwen/Qwen-Image-2.1", "zh_CN", "⚠️ 该模型的许可证不允许商业用途。"),
    ],
)
def test_help_says_what_draws_and_what_its_licence_forbids(name, language, last):
    with speaking(language):
        assert help_text([find_model(name)]).splitlines()[-1] == last


def test_help_names_each_of_several_models_and_whose_licence_forbids_what():
    both = [find_model(name) for name in ("tiny", "Qwen/Qwen-Image-2.1")]
    assert help_text(both).splitlines()[-2:] == [
        "Drawn by tiny, Qwen/Qwen-Image-2.1.",
        "⚠️ The licence of Qwen/Qwen-Image-2.1 allows no commercial use.",
    ]


def test_help_tells_of_writing_where_a_model_writes():
    assert "/describe" in help_text([find_model("Qwen/Qwen-Image")])
    assert "/describe" not in help_text([find_model("tiny")])


async def test_every_command_says_where_it_works(stage):
    tree = stage.app.client.tree
    for command in tree.get_commands(type=None):
        assert command.allowed_installs is not None, command.name
        assert command.allowed_contexts is not None, command.name
        # Admins and reports need a server with the bot, and are not offered anywhere else.
        if command.name in {"admin", "Report"}:
            assert not command.allowed_installs.user, command.name
            assert not command.allowed_contexts.private_channel, command.name
        else:
            assert command.allowed_installs.user, command.name
            assert command.allowed_contexts.private_channel, command.name


async def test_what_one_looks_at_alone_is_posted_at_ones_wish(stage):
    bob, mallory = stage.sandbox.user("bob"), stage.sandbox.user("mallory")
    first = await stage.outcome(await stage.imagine("bob", "a fish", "dm", count=2))
    job_id = job_id_of(first)
    shown = await (await bob.slash("general", "show", job=job_id)).until(is_outcome)
    assert labels(shown)[-1] == "Post here"
    assert not mallory.messages("general")
    posted = await (await bob.press(shown, "Post here")).until(is_outcome)
    assert not posted.ephemeral
    assert "Post here" not in labels(posted)
    assert len(posted.files) == 2
    assert posted in mallory.messages("general")
    # What was posted goes with the picture.
    await bob.press(first, "Delete")
    await stage.sandbox.wait(lambda: first.deleted and posted.deleted)


async def test_the_list_of_show_tells_pictures_of_one_prompt_apart(stage):
    bob = stage.sandbox.user("bob")
    first = await stage.outcome(await stage.imagine("bob", "a fish", count=4))
    await stage.outcome(await bob.press(first, "U1"))
    await stage.outcome(await bob.press(first, "V1"))
    offered = await bob.autocomplete("general", "show", "job", job="")
    assert [choice["name"] for choice in offered] == [
        "a fish · 0 min ago · 256x256 · varied",
        "a fish · 0 min ago · 512x512 · enlarged",
        "a fish · 0 min ago · 256x256 · 4 pictures",
    ]
