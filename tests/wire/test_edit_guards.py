"""What keeps a picture from being edited: image check, blocks, closed channels; and reports."""

from __future__ import annotations

import io

from PIL import Image

from tests.engines import ScriptedCheck
from tests.wire.kit import controls, staged, text_of
from tests.wire.test_edits import BOTH, picture


async def admin(stage, command, **options):
    used = await stage.sandbox.user("alice").slash("general", f"admin {command}", **options)
    return text_of(await used.answer())


async def edit(stage, name="bob", channel="general", **options):
    values = {"instruction": "make it night", "image": ("a.png", picture()), **options}
    return await stage.sandbox.user(name).slash(channel, "edit", **values)


async def test_a_blocked_servers_flagged_reference_is_refused_before_it_is_drawn(sandbox, tmp_path):
    check = ScriptedCheck()
    async with staged(sandbox, tmp_path, check=check, **BOTH) as stage:
        await admin(stage, "moderation policy", elsewhere="block")
        told = text_of(await (await edit(stage)).answer())
        assert "a picture that this starts from" in told
        assert (stage.engine.requests, await stage.jobs_made()) == ([], 0)
        (seen,) = check.seen
        assert not seen.exists()
        # So is what is made from a picture otherwise.
        used = await stage.imagine("bob", "a house", image=("a.png", picture()))
        assert "a picture that this starts from" in text_of(await used.answer())
        check.error = RuntimeError("broken")
        told = text_of(await (await edit(stage)).answer())
        assert "does not allow unchecked pictures here" in told


async def test_a_clear_reference_is_drawn_and_its_region_shown(sandbox, tmp_path):
    check = ScriptedCheck(7)
    async with staged(sandbox, tmp_path, check=check, **BOTH) as stage:
        await admin(stage, "moderation policy", elsewhere="block")
        await stage.app.client.services.queue.control.pause("a test", by=1)
        waiting = await (await edit(stage, region="top")).answer()
        assert waiting.files
        assert "bright part" in text_of(waiting)


async def test_where_flagged_pictures_are_covered_no_preview_shows_one(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, check=ScriptedCheck(), **BOTH) as stage:
        await stage.app.client.services.queue.control.pause("a test", by=1)
        waiting = await (await edit(stage, region="top")).answer()
        assert not waiting.files
        assert await stage.jobs_made() == 1


async def test_blocks_and_closed_channels_hold_for_every_way_to_edit(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        bob, bot_id = sandbox.user("bob"), stage.app.client.user.id
        first = await stage.outcome(await stage.imagine("alice", "a house", aspect="1:1"))
        (menu,) = [one for one in controls(first) if one.startswith("more:")]
        opened = await bob.press(first, "Edit")
        await opened.response()

        async def tried() -> list[str]:
            said = [await (await edit(stage)).answer()]
            said.append(await (await bob.submit_modal(opened, {"instruction": "night"})).answer())
            said.append(await (await bob.select(first, menu, "zoom20")).answer())
            before = len(bob.messages("general"))
            await bob.send("general", f"<@{bot_id}> make it night", reply_to=first)
            await sandbox.wait(lambda: len(bob.messages("general")) >= before + 2)
            said.append(bob.messages("general")[-1])
            return [text_of(one) for one in said]

        await admin(stage, "block add", user=bob.id)
        said = await tried()
        assert all("You cannot use the bot here" in text for text in said), said
        await admin(stage, "block remove", user=bob.id)
        await admin(stage, "channel deny", where=first.channel.id)
        said = await tried()
        assert all("channel" in text for text in said), said
        assert await stage.jobs_made() == 1


async def test_a_report_shows_the_source_beside_the_result(sandbox, tmp_path):
    async with staged(sandbox, tmp_path, **BOTH) as stage:
        alice, mallory = sandbox.user("alice"), sandbox.user("mallory")
        await admin(stage, "moderation reports", where=alice.place("art").id)
        source = picture((600, 300))
        message = await stage.outcome(await edit(stage, image=("a.png", source)))
        menu = await mallory.context_menu("general", "Report", message)
        await menu.response()
        await (await mallory.submit_modal(menu, {"reason": "mine"})).answer()
        (filed,) = [m for m in alice.messages("art") if "rdelete" in str(controls(m))]
        assert [file.filename[:8] for file in filed.files] == ["SPOILER_"] * 2
        shown = [Image.open(io.BytesIO(file.data)) for file in filed.files]
        assert [one.format for one in shown] == ["JPEG", "JPEG"]
        assert shown[0].size == (512, 256)
        with Image.open(io.BytesIO(message.files[0].data)) as result:
            drawn = result.convert("RGB").getpixel((9, 9))
        assert max(abs(a - b) for a, b in zip(drawn, shown[1].getpixel((9, 9)), strict=True)) < 6
