"""The main flows of the bot on the page: forms, menus, pages, another language, a phone."""

from __future__ import annotations

import pytest

from tests.browser.test_browser_page import TEXT, arrive, become, find, press
from tests.engines import Script, ScriptedEngine
from tests.wire.kit import staged
from tests.wire.test_previews import jpeg

pytestmark = pytest.mark.browser

SHOWN = "[...document.querySelectorAll('.gallery img, .embed-image img')]"
LOADED = f"{SHOWN}.filter((image) => image.complete).length"


async def test_a_batch_a_form_and_pages(sandbox, page, tmp_path):
    engine = ScriptedEngine(Script(hold_at=4, preview=jpeg()))
    async with staged(sandbox, tmp_path / "data", engine):
        await arrive(page, sandbox)
        await page.type("/compose count: 2 \n")
        await page.until("document.querySelector('dialog.form')")
        await page.type("two fish")
        await press(page, "Submit", "dialog .button")
        await page.until(f"{TEXT}.includes('Step 4 of 10')")
        await page.until(f"{LOADED} === 1")
        assert "unfinished" in await page.js("document.querySelector('.gallery img').alt")
        engine.release.set()

        await page.until(f"{TEXT}.includes('U1')")
        await page.until(f"{LOADED} === 2")
        await press(page, "🖼️")
        await page.until(f"{LOADED} === 3")
        await press(page, "Details")
        await page.until(f"{TEXT}.includes('Steps: 10')")
        await press(page, "Remix")
        await page.until("document.querySelector('dialog.form')")
        assert await page.js("document.querySelector('dialog textarea').value") == "two fish"
        await page.type(" in a bowl")
        await press(page, "Submit", "dialog .button")
        await page.until(f"{TEXT}.includes('two fish in a bowl')")
        await page.until(f"{LOADED} === 5")

        await page.click("#text")
        await page.type("/history text: bowl \n")
        await page.until(f"{TEXT}.includes('Your pictures with')")
        await page.until(f"{LOADED} === 6")


async def test_the_menu_of_a_message(sandbox, page, tmp_path):
    async with staged(sandbox, tmp_path / "data") as stage:
        await stage.outcome(await stage.imagine("bob", "a fish", seed=5))
        await arrive(page, sandbox)
        await page.until(f"{LOADED} === 1")
        for name, seen in (("Show parameters", "Seed: 5"), ("Use as input", "")):
            await page.js("document.querySelector('[aria-label^=\"More actions\"]').click()")
            await press(page, name, ".menu-item")
            if seen:
                await page.until(f"{TEXT}.includes('{seen}')")
        await page.until("document.querySelector('dialog.form')")
        await page.type("in oil, 30% (soft)!")
        await press(page, "Submit", "dialog .button")
        await page.until(f"{LOADED} === 2")
        assert stage.engine.requests[-1].input_image is not None
        assert stage.engine.requests[-1].prompt == "in oil, 30% (soft)!"
        await page.js("document.querySelector('[aria-label^=\"More actions\"]').click()")
        await press(page, "Forward", ".menu-item")
        await press(page, "#art", ".menu-item")
        await press(page, "art", ".channel")
        await page.until("document.querySelector('.forward .gallery img')?.complete")


async def test_a_chinese_user_and_a_group(sandbox, page, tmp_path):
    async with staged(sandbox, tmp_path / "data"):
        await arrive(page, sandbox)
        await become(page, "小晨")
        await page.type("/画图 提示词: 灯塔 数量: 1 \n")
        await page.until(f"{LOADED} === 1")
        await page.until(find(".button", "重画"))
        assert "秒" in await page.js(TEXT)
        assert not await page.js(find(".channel", "friends"))
        await become(page, "Bob")
        await page.js(f"{find('.channel', 'friends')}.click()")
        await page.until("document.querySelector('#channel-name').innerText === 'friends'")
        # The channel is loaded, then the cursor set; what is typed before that is lost.
        await page.until("document.querySelector('.suggestion')")
        await page.until("document.activeElement.id === 'text'")
        await page.type("/imagine a fish \n")
        await page.until(f"{LOADED} === 1")
