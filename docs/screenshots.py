"""Makes the screenshots of the documentation from a real run: `make screenshots`.

The whole bot with its tiny engine on the sandbox, seen in headless Chromium.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from bot.app import App
from bot.demo import demo_settings, run_beside
from bot.sandbox.server import Sandbox
from tests.browser.chromium import Page, browser, find_chromium

IMAGES = Path(__file__).parent / "images"
TEXT = "document.querySelector('#messages').textContent"
PICTURES = "[...document.querySelectorAll('.embed-image img')].filter((i) => i.complete).length"


async def _shoot(sandbox: Sandbox, page: Page) -> None:
    await page.open(sandbox.url)
    await page.theme("dark")
    await page.size(1280, 860)
    await page.until("document.activeElement.id === 'text'", 30)
    await page.type("/imagine a lighthouse at night aspect: 16:9 seed: 5 \n")
    await page.until(f"{PICTURES} === 1", 120)
    bob = sandbox.user("bob")
    prompt = "a red boat with the word HELLO"
    await bob.slash("general", "imagine", prompt=prompt, quality="high", count=4)
    await page.until(f"{TEXT}.includes('Step ')", 60)
    await page.screenshot(IMAGES / "sandbox.png")


async def main() -> int:
    """Take the screenshots; return the exit code."""
    executable = find_chromium()
    if executable is None:
        sys.stderr.write("Chromium is not installed.\n")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        async with Sandbox() as sandbox, browser(executable, Path(folder) / "profile") as up:

            async def work(_: App) -> None:
                async with up.page() as page:
                    await _shoot(sandbox, page)

            settings = demo_settings(sandbox, Path(folder) / "data")
            await run_beside(App(settings, guild_ready_timeout=0.01), work)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
