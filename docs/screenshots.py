"""Makes the pictures of the documentation from a real run: `make screenshots`.

The whole bot with its tiny engine on the sandbox, seen in headless Chromium.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bot.app.app import App
from bot.app.beside import demo_settings, run_beside
from bot.sandbox.server import Sandbox
from docs.animation import recorded, write_gif
from tests.browser.chromium import Page, browser, find_chromium
from tests.wire.kit import is_outcome

IMAGES = Path(__file__).parent / "images"
TEXT = "document.querySelector('#messages').textContent"
PICTURES = """[...document.querySelectorAll('.gallery img, .embed-image img')]
  .filter((image) => image.complete).length"""


HELD = """[...document.querySelectorAll('{selector}')]
  .filter((node) => node.innerText.includes({text})).at(-1)"""


def _last(selector: str, text: str) -> str:
    """Return an expression for the newest element that matches and contains `text`."""
    return HELD.format(selector=selector, text=json.dumps(text))


async def _press(page: Page, text: str, selector: str = ".button") -> None:
    await page.until(_last(selector, text), 30)
    await page.js(f"{_last(selector, text)}.click()")


async def _become(page: Page, name: str) -> None:
    await page.click("#me")
    await _press(page, name, ".menu-item")
    await page.until(f"document.querySelector('#me b').innerText === {json.dumps(name)}")
    await page.until("document.activeElement.id === 'text'")


async def _arrive(sandbox: Sandbox, page: Page, theme: str) -> None:
    await page.open(sandbox.url)
    await page.theme(theme)
    await page.size(1280, 860)
    await page.until("document.activeElement.id === 'text'", 30)


async def channel(sandbox: Sandbox, page: Page) -> None:
    """A finished picture with its buttons, and a batch on its way with its preview."""
    await _arrive(sandbox, page, "dark")
    await _press(page, "general", "button.channel")
    await page.until("document.activeElement.id === 'text'", 30)
    await page.type("/imagine a lighthouse aspect: 16:9 seed: 5 \n")
    await page.until(f"{PICTURES} === 1", 120)
    bob = sandbox.user("bob")
    prompt = "an orange cat face"
    await bob.slash("general", "imagine", prompt=prompt, quality="high", count=4)
    await page.until(f"{TEXT}.includes('Step ') && {PICTURES} === 2", 60)
    await page.screenshot(IMAGES / "sandbox.png")
    await page.until(f"{TEXT}.includes('V4')", 120)


async def moving(sandbox: Sandbox, page: Page) -> None:
    """The front page's moving picture: a command as it is typed, a picture that comes, a grid."""
    await _arrive(sandbox, page, "dark")
    await _press(page, "art", "button.channel")
    await page.size(900, 760)
    # Its blinking would be frames of nothing else.
    await page.js("document.documentElement.style.setProperty('caret-color', 'transparent')")
    await page.until("document.querySelector('.channel[aria-current]')?.innerText.includes('art')")
    await page.until("document.activeElement.id === 'text'", 30)
    async with recorded(page) as recording:
        await page.type("/imagine a red heart on a white background")
        await page.type("\n")
        await page.until(f"{PICTURES} === 1 && {TEXT}.includes('Reroll')", 120)
        recording.hold()
        await page.type("/imagine an orange cat face count: 4 ")
        await page.type("\n")
        await page.until(f"{PICTURES} === 5 && {TEXT}.includes('V4')", 120)
    write_gif(recording, IMAGES / "demo.gif")


async def batch(_: Sandbox, page: Page) -> None:
    """The grid of a batch with its buttons, in the light theme."""
    await page.theme("light")
    await page.until(f"{PICTURES} === 5", 60)
    await page.screenshot(IMAGES / "batch.png")


async def form(_: Sandbox, page: Page) -> None:
    """The form behind Remix."""
    await page.theme("dark")
    await _press(page, "Remix")
    await page.until("document.querySelector('dialog.form')")
    await page.screenshot(IMAGES / "form.png")
    await _press(page, "Cancel", "dialog .button")
    await page.until("!document.querySelector('dialog')")


async def history(sandbox: Sandbox, page: Page) -> None:
    """The pages of one's own pictures."""
    alice = sandbox.user("alice")
    for prompt in ("a pink flower", "a mountain", "a sign that says OPEN", "月亮"):
        asked = await alice.slash("art", "imagine", prompt=prompt, quality="fast")
        await asked.until(is_outcome, 120)
    # After a dialog that no mouse closed, headless Chromium types nothing until one clicks.
    await page.click("#text")
    await page.type("/history \n")
    await page.until(f"{TEXT}.includes('Your pictures') && {PICTURES} === 6", 15)
    await page.screenshot(IMAGES / "history.png")


async def chinese(_: Sandbox, page: Page) -> None:
    """A user whose Discord is in Chinese."""
    await _become(page, "小晨")
    await page.type("/画图 夜晚的灯塔 \n")
    await page.until(f"{TEXT}.includes('重画')", 120)
    await page.type("/设置\n")
    await page.until(f"{TEXT}.includes('你的设置')", 30)
    await page.screenshot(IMAGES / "chinese.png")


async def phone(_: Sandbox, page: Page) -> None:
    """The same at a phone's width."""
    await page.size(390, 844, mobile=True)
    await page.until("document.querySelector('#channels').getBoundingClientRect().right <= 0")
    await page.screenshot(IMAGES / "phone.png")


async def texts(sandbox: Sandbox, page: Page) -> None:
    """A prompt that was rewritten, the picture of it, an edit by words, and its description."""
    await _arrive(sandbox, page, "light")
    await page.size(1000, 2160)
    await _press(page, "art", "button.channel")
    await _texts(sandbox, "bob", "a red star", "make the star blue")
    await page.until(f"{TEXT}.includes('Imagine this')", 30)
    await page.screenshot(IMAGES / "texts.png")


async def chinese_texts(sandbox: Sandbox, page: Page) -> None:
    """The same by a user whose Discord is in Chinese."""
    await _arrive(sandbox, page, "light")
    await page.size(1000, 2160)
    await _become(page, "小晨")
    await _press(page, "art", "button.channel")
    await _texts(sandbox, "chen", "一颗红色星星", "把星星变成蓝色")
    await page.until(f"{TEXT}.includes('照此画图')", 30)
    await page.screenshot(IMAGES / "texts-zh.png")


async def _texts(sandbox: Sandbox, name: str, prompt: str, instruction: str) -> None:
    user = sandbox.user(name)
    asked = await user.slash("art", "imagine", prompt=prompt, enhance="ask", aspect="1:1")
    draw, imagine = ("Draw this", "Imagine this") if name == "bob" else ("画这个", "照此画图")
    shown = await asked.until(lambda message: draw in str(message.controls), 60)
    picture = await (await user.press(shown, draw)).until(is_outcome, 120)
    ways = {"instruction": instruction, "enhance": "off"}
    edited = await user.slash("art", "edit", image=("star.png", picture.files[0].data), **ways)
    await edited.until(is_outcome, 120)
    described = await user.context_menu("art", "Describe this picture", picture)
    await described.until(lambda message: imagine in str(message.controls), 60)


FLOWS = (moving, channel, batch, form, history, texts, chinese_texts, chinese, phone)


async def main(names: list[str]) -> int:
    """Take the pictures, or those of the flows that are named; return the exit code."""
    executable = find_chromium()
    if executable is None:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox, browser(executable, Path(folder) / "profile") as up:

            async def work(_: App) -> None:
                async with up.page() as page:
                    for flow in FLOWS:
                        if not names or flow.__name__ in names:
                            await flow(sandbox, page)

            settings = demo_settings(sandbox, Path(folder) / "data")
            await run_beside(App(settings, guild_ready_timeout=0.01), work)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
