"""The page of the sandbox in a real browser: what a person sees, types and presses."""

from __future__ import annotations

import json

import pytest

from bot.sandbox.server import Sandbox
from tests.browser.chromium import Page
from tests.engines import Script, ScriptedEngine
from tests.sandbox.sandbox_bot import Bot
from tests.wire.kit import staged

pytestmark = pytest.mark.browser

TEXT = "document.querySelector('#messages').textContent"


def find(selector: str, text: str) -> str:
    """Return an expression for the first element that matches and contains `text`."""
    return (
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find((node) => node.innerText.includes({json.dumps(text)}))"
    )


async def arrive(page: Page, sandbox: Sandbox) -> None:
    await page.size(1280, 800)
    await page.open(sandbox.url)
    await page.until("document.querySelector('#bot-state .dot')?.dataset.online === 'true'")
    await page.until("document.activeElement.id === 'text'")


async def press(page: Page, text: str, selector: str = ".button") -> None:
    await page.until(find(selector, text))
    await page.js(f"{find(selector, text)}.click()")


async def become(page: Page, name: str) -> None:
    await page.click("#me")
    await press(page, name, ".menu-item")
    await page.until(f"document.querySelector('#me b').innerText === {json.dumps(name)}")
    await page.until("document.activeElement.id === 'text'")


async def test_from_a_prompt_to_a_picture(sandbox, page, tmp_path):
    engine = ScriptedEngine(Script(hold_at=4))
    async with staged(sandbox, tmp_path / "data", engine):
        await arrive(page, sandbox)
        await page.until("document.querySelector('.suggestion')")
        await page.type("/imagine a lighthouse at night seed: 5 ")
        assert await page.js("document.querySelector('#option-seed').value.trim()") == "5"
        await page.type("\n")
        await page.until(f"{TEXT}.includes('Alice used /imagine')")
        await page.until(f"{TEXT}.includes('Step 4 of 10')")
        assert await page.js(f"{TEXT}.includes('40%')")
        await page.js("document.querySelector('#messages').dataset.same = 'yes'")
        engine.release.set()
        await page.until("document.querySelector('.gallery img')?.complete")
        picture = "document.querySelector('.gallery img')"
        assert await page.js(f"{picture}.naturalWidth") > 0
        assert "a lighthouse at night" in await page.js(f"{picture}.alt")
        assert engine.requests[-1].seeds == (5,)

        await press(page, "Reroll")
        await page.until("document.querySelectorAll('.gallery img').length === 2")
        await page.type("/queue\n")
        await page.until(f"{TEXT}.includes('Only you can see this')")

        await become(page, "Bob")
        await page.until(f"{TEXT}.includes('a lighthouse at night')")
        assert "Only you can see this" not in await page.js(TEXT)
        call = await sandbox.user("alice").slash("general", "queue")
        await call.answer()
        await sandbox.user("alice").send("general", "can Bob see this?")
        await page.until(f"{TEXT}.includes('can Bob see this?')")
        assert "Only you can see this" not in await page.js(TEXT)
        assert await page.js(f"!{find('.channel', 'staff')}")

        # Plain text in the direct messages is a prompt.
        await page.js("document.querySelector('#channels section:last-child .channel').click()")
        await page.until("document.querySelector('#channel-name').innerText === 'Imagine'")
        await page.until("document.activeElement.id === 'text'")
        await page.type("a red boat\n")
        await page.until("document.querySelector('.gallery img')?.complete")


async def test_what_is_transparent_shows_a_checkerboard(sandbox, page, tmp_path):
    settings = {"image_model_name": "Qwen/Qwen-Image-2.1"}
    async with staged(sandbox, tmp_path / "data", **settings):
        await arrive(page, sandbox)
        await page.type("/imagine prompt: a sticker transparent: True\n")
        await page.until("document.querySelector('.gallery img')?.complete")
        behind = "getComputedStyle(document.querySelector('.gallery img')).backgroundImage"
        assert "repeating-conic-gradient" in await page.js(behind)
        await page.js("document.querySelector('.gallery .picture').click()")
        await page.until("document.querySelector('dialog.lightbox img')?.complete")
        assert "repeating-conic-gradient" in await page.js(
            "getComputedStyle(document.querySelector('dialog.lightbox img')).backgroundImage"
        )


async def test_thinking_forms_menus_and_silence(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    bot.gate.clear()
    await page.type("/draw prompt: an owl steps: 3 \n")
    await page.until("document.querySelector('.is-thinking .dots')")
    bot.gate.set()
    await page.until("document.querySelector('.attachments img')?.complete")
    assert await page.js(f"!{TEXT}.includes('thinking')")
    assert await page.js("document.querySelectorAll('#pending li').length") == 0

    await press(page, "Form")
    await page.until("document.querySelector('dialog.form')")
    await page.type("roses are red")
    await page.js("document.querySelector('dialog .select').click()")
    await press(page, "Haiku", ".menu-item")
    await press(page, "Submit", "dialog .button")
    await page.until(f"{TEXT}.includes('roses are red / Haiku')")
    await page.until("!document.querySelector('dialog')")
    await press(page, "Dismiss message", ".text-button")
    await page.until(f"!{TEXT}.includes('roses are red / Haiku')")

    await page.js("document.querySelector('#messages .select').click()")
    await press(page, "b", ".menu-item")
    await page.until(f"{TEXT}.includes('picked b')")
    await press(page, "Quietly")
    await page.until(f"{TEXT}.includes('only you')")
    assert await page.js(f"{find('.button', 'Off')}.disabled")

    # A choice of the bot's own completion is sent by its value.
    await page.js("document.querySelector('#text').focus()")
    await page.type("/pick ")
    await page.until(find(".panel-item", "red"))
    # Enter comes before the bot's answer, and chooses nothing that does not fit.
    await page.type("gre")
    await page.type("\n")
    await page.until("document.querySelector('#option-colour').value === 'green'")
    await page.type("\n")
    await page.until(f"{TEXT}.endsWith('green')")

    bot.gate.clear()
    await page.type("/late\n")
    await page.until("document.querySelector('#pending li')")
    sandbox.clock.advance(3.5)
    await page.until("document.querySelector('#pending .note')?.innerText.includes('respond')")
    bot.gate.set()


async def test_options_are_checked_before_sending(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    await page.type("/")
    await page.until(find(".panel-item", "/admin queue"))
    await page.type("draw ")
    await page.until("document.activeElement.id === 'option-prompt'")
    await page.type("\n")
    await page.until(find(".chip-problem", "needed"))
    await page.type("an owl steps: many")
    await page.type("\n")
    await page.until(find(".chip-problem", "whole number"))
    await page.js("document.querySelector('#option-steps').select()")
    await page.type("99\n")
    await page.until(find(".chip-problem", "At most 50"))
    assert await page.js("document.querySelectorAll('#messages .message').length") == 0
    await page.key("Escape", 27)
    await page.until("document.activeElement.id === 'text'")

    await become(page, "Mallory")
    await page.type("/")
    await page.until(find(".panel-item", "/draw"))
    assert await page.js(f"!{find('.panel-item', '/admin queue')}")


async def test_typing_after_a_command_goes_where_discord_puts_it(
    sandbox: Sandbox, page: Page, tmp_path
):
    async with staged(sandbox, tmp_path / "data") as stage:
        await arrive(page, sandbox)
        # Into the first required option, key by key.
        await page.type("/imagine a red heart")
        assert await page.js("document.activeElement.id") == "option-prompt"
        assert await page.js("document.activeElement.value") == "a red heart"
        await page.type("\n")
        await page.until("document.querySelector('.gallery img')?.complete")
        assert stage.engine.requests[-1].prompt == "a red heart"
        # The option's own name, as the help writes it.
        await page.type("/imagine prompt: a blue heart aspect: 16:9 seed: 7 \n")
        await page.until("document.querySelectorAll('.gallery img').length === 2")
        drawn = stage.engine.requests[-1]
        assert (drawn.prompt, drawn.seeds) == ("a blue heart", (7,))
        assert drawn.width > drawn.height
        # Without a required option keys look for one, and what is none is not dropped in silence.
        await page.type("/history hea")
        assert await page.js("document.activeElement.id") == "bare"
        await page.until(find(".panel-head", "No such option"))
        await page.type("\n")
        await page.until(find(".bare .chip-problem", "No such option"))
        for _ in range(3):
            await page.key("Backspace", 8)
        await page.type("te")
        await page.until(find(".panel-item", "text"))
        await page.type("\n")
        await page.until("document.activeElement.id === 'option-text'")
        await page.type("heart\n")
        await page.until(f"{TEXT}.includes('Your pictures with')")
        # Backspace leaves the command as it leaves any other text.
        await page.type("/queue ")
        await page.until("document.activeElement.id === 'bare'")
        await page.key("Backspace", 8)
        await page.until("document.activeElement.id === 'text'")
        assert await page.js("document.activeElement.value") == "/queue"


async def test_files_go_along(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    paste = """(() => { const data = new DataTransfer();
        data.items.add(new File(["hello"], "notes.txt", { type: "text/plain" }));
        document.activeElement.dispatchEvent(
            new ClipboardEvent("paste", { clipboardData: data, bubbles: true })); })()"""
    await page.js(paste)
    await page.until(find(".tray-item", "notes.txt"))
    await page.type("here\n")
    await page.until(find(".message .file", "notes.txt"))
    (message,) = sandbox.user("bob").messages("general")
    assert (message.content, message.files[0].data) == ("here", b"hello")
    # In a command the file goes into its option.
    await page.type("/draw an owl")
    await page.js(paste)
    await page.until(find(".chip-file", "notes.txt"))
    await page.js("document.querySelector('#option-prompt').focus()")
    await page.type("\n")
    answered = await sandbox.wait(
        lambda: [m for m in sandbox.user("bob").messages("general") if m.author.bot and m.files]
    )
    assert answered[0].files[0].data == b"hello"


async def test_a_refused_message_comes_back(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    await page.paste("long " * 500)
    await page.type("\n")
    await page.until("!document.querySelector('.problem').hidden")
    assert len(await page.js("document.querySelector('#text').value")) == 2499
    assert sandbox.user("bob").messages("general") == []
    (problem,) = page.problems
    assert "status of 400" in problem
    page.problems.clear()


async def test_connection_and_presence(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    await sandbox._users.close()
    await page.until("!document.querySelector('#banner').hidden")
    await sandbox.user("bob").send("general", "sent meanwhile")
    await page.until("document.querySelector('#banner').hidden")
    await page.until(f"{TEXT}.includes('sent meanwhile')")
    await bot.close()
    await page.until("document.querySelector('#bot-state .dot').dataset.online === 'false'")


async def test_a_notice_is_in_the_users_language_and_can_be_put_away(
    sandbox: Sandbox, bot: Bot, page: Page
):
    sandbox.world.notices = {"en-US": "a toy draws", "zh-CN": "玩具模型"}
    await arrive(page, sandbox)
    notice = "document.querySelector('#notice')"
    assert await page.js(f"{notice}.innerText.trim()") == "a toy draws"
    await become(page, "小晨")
    assert await page.js(f"{notice}.innerText.trim()") == "玩具模型"
    await page.size(390, 844, mobile=True)
    assert await page.js("document.documentElement.scrollWidth") <= 390
    await page.click("#notice button")
    assert await page.js(f"{notice}.hidden && {notice}.innerText") == ""
    assert await page.js("document.activeElement.id") == "text"
    await page.open(sandbox.url)  # Anew, in the same tab.
    await page.until("document.activeElement?.id === 'text'")
    assert await page.js(f"{notice}.hidden")


async def test_without_a_notice_there_is_none(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    assert await page.js("document.querySelector('#notice').hidden")


async def test_examples_stand_in_every_channel(sandbox, page, tmp_path):
    async with staged(sandbox, tmp_path / "data"):
        await arrive(page, sandbox)
        await page.until("document.querySelector('.suggestion')")
        await page.type("/imagine a boat\n")
        await page.until("document.querySelector('.gallery img')?.complete")
        assert await page.js("document.querySelectorAll('.suggestion').length") == 5
        # They take one row, whatever the width.
        await page.size(500, 800)
        tall = "document.querySelector('.suggestions').getBoundingClientRect().height"
        assert await page.js(tall) < 60
        # One that has the focus keeps it while messages come.
        await page.js("document.querySelector('.suggestion').focus()")
        await sandbox.user("bob").send("general", "hello")
        await page.until(f"{TEXT}.includes('hello')")
        assert await page.js("document.activeElement.innerText") == "a lighthouse"
        await press(page, "a lighthouse", ".suggestion")
        await page.until("document.querySelector('#option-prompt')?.value === 'a lighthouse'")
        await page.type("\n")
        await page.until(f"{TEXT}.includes('a lighthouse')")
        # Bob's app is in the group, where Alice has none; neither is it for her to try.
        await page.size(1280, 800)
        await press(page, "friends", ".channel")
        await page.until("document.querySelector('#channel-name').innerText === 'friends'")
        await page.until("document.querySelectorAll('.suggestion').length === 0")
        await become(page, "小晨")
        await page.until(find(".suggestion", "一座灯塔"))


async def test_a_phone(sandbox: Sandbox, bot: Bot, page: Page):
    await arrive(page, sandbox)
    await page.size(390, 844, mobile=True)
    await page.type("/draw an owl\n")
    await page.until("document.querySelector('.attachments img')?.complete")
    assert await page.js("document.documentElement.scrollWidth") <= 390
    assert await page.js("document.querySelector('#scroller').scrollWidth") <= 390
    await page.until("getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'")
    await page.click("#menu-button")
    await page.until("document.activeElement.matches('.channel[aria-current]')")
    await press(page, "art", ".channel")
    await page.until("document.querySelector('#channel-name').innerText === 'art'")
    assert await page.js("!document.body.classList.contains('drawer')")


async def test_reading_stays_where_it_is(sandbox: Sandbox, bot: Bot, page: Page):
    bob = sandbox.user("bob")
    for number in range(70):
        await bob.send("general", f"line {number}\nand more")
    await arrive(page, sandbox)
    end = (
        "(s => s.scrollHeight - s.scrollTop - s.clientHeight)(document.querySelector('#scroller'))"
    )
    await page.until(f"{TEXT}.includes('line 69') && {end} < 2")
    await bob.send("general", "at the bottom")
    await page.until(f"{TEXT}.includes('at the bottom') && {end} < 2")
    await page.js("document.querySelector('#scroller').scrollTop = 300")
    await page.until("document.querySelector('#scroller').scrollTop === 300")
    await page.js("new Promise(requestAnimationFrame)")
    await bob.send("general", "while reading")
    await page.until("!document.querySelector('#jump').hidden")
    assert await page.js("document.querySelector('#scroller').scrollTop") == 300
    await page.click("#jump")
    await page.until(f"{end} < 2")
    await press(page, "Load earlier messages", ".text-button")
    await page.until(f"{TEXT}.includes('line 0and')")
