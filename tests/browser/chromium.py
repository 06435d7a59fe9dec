"""Drives headless Chromium through the DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if path := shutil.which(name):
            return path
    return None


class Page:
    """One tab. Problems that it reports (exceptions, console errors) gather in `problems`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()
        self.problems: list[str] = []

    async def read(self) -> None:
        async for frame in self._socket:
            body = json.loads(frame.data)
            if "id" in body:
                self._answers.pop(body["id"]).set_result(body)
                continue
            method, params = body["method"], body["params"]
            if method == "Page.loadEventFired":
                self._loaded.set()
            elif method == "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.problems.append(details.get("exception", details).get("description", ""))
            elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
                self.problems.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))

    async def call(self, method: str, *, patience: float = 20, **params: Any) -> dict[str, Any]:
        number = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._socket.send_str(json.dumps({"id": number, "method": method, "params": params}))
        async with asyncio.timeout(patience):
            body = await answer
        if "error" in body:
            raise RuntimeError(f"{method}: {body['error']['message']}")
        return body["result"]

    async def open(self, url: str) -> None:
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(20):
            await self._loaded.wait()

    async def js(self, expression: str, patience: float = 20) -> Any:
        """Return the value of an expression, which may await."""
        reply = await self.call(
            "Runtime.evaluate",
            patience=patience,
            expression=f"(async () => ({expression}))()",
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        if "exceptionDetails" in reply:
            raise AssertionError(reply["exceptionDetails"]["exception"].get("description"))
        return reply["result"].get("value")

    async def until(self, expression: str, seconds: float = 10) -> Any:
        """Return the expression's first truthy value, looked at after each change of the page."""
        wait = f"""new Promise((done, fail) => {{
            const look = () => {{ const value = {expression}; if (value) stop(done, value); }};
            const changes = new MutationObserver(look);
            const tick = setInterval(look, 100);
            const late = setTimeout(() => stop(fail, new Error("never: " + {json.dumps(expression)}
                + "\\n" + document.body.innerText.slice(-900))), {seconds * 1000});
            const stop = (how, value) => {{
                changes.disconnect(); clearInterval(tick); clearTimeout(late); how(value);
            }};
            changes.observe(document, {{ subtree: true, childList: true, attributes: true,
                characterData: true }});
            look();
        }})"""
        return await self.js(f"await {wait}", seconds + 20)

    async def click(self, selector: str) -> None:
        """Click the middle of the first element that matches, with a real mouse event."""
        box = await self.js(
            f"""(() => {{ const node = document.querySelector({json.dumps(selector)});
            node.scrollIntoView({{ block: "nearest" }});
            const r = node.getBoundingClientRect();
            return [r.x + r.width / 2, r.y + r.height / 2]; }})()"""
        )
        where = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, **where)

    async def type(self, text: str) -> None:
        """Type key by key into what has the focus; a newline is the Enter key.

        What no key writes (Chinese) is committed character by character, as an input method does.
        """
        for char in text:
            if char == "\n":
                await self.key("Enter", 13, "\r")
            elif char.isascii():
                # The codes of other characters are those of arrows and the like.
                code = ord(char.upper()) if char.isalnum() or char == " " else 0
                await self.key(char, code, char)
            else:
                await self.call("Input.insertText", text=char)

    async def paste(self, text: str) -> None:
        """Insert a text into what has the focus, in one piece."""
        await self.call("Input.insertText", text=text)

    async def key(self, name: str, code: int, text: str = "") -> None:
        common = {"key": name, "windowsVirtualKeyCode": code}
        if len(name) > 1:
            common["code"] = name
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    async def size(self, width: int, height: int, *, mobile: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )

    async def theme(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def picture(self) -> bytes:
        """Return a PNG of what is seen."""
        reply = await self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(reply["data"])

    async def screenshot(self, path: Path) -> None:
        await asyncio.to_thread(path.write_bytes, await self.picture())


class Browser:
    """A running Chromium that opens tabs."""

    def __init__(self, http: aiohttp.ClientSession, base: str) -> None:
        self._http = http
        self._base = base

    @contextlib.asynccontextmanager
    async def page(self) -> AsyncIterator[Page]:
        async with self._http.put(f"{self._base}/json/new?about:blank") as reply:
            target = await reply.json()
        async with self._http.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            reader = asyncio.create_task(page.read())
            try:
                yield page
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader


@contextlib.asynccontextmanager
async def browser(executable: str, profile: Path) -> AsyncIterator[Browser]:
    """Run Chromium with a fresh profile folder for as long as the context lasts."""
    process = await asyncio.create_subprocess_exec(
        executable,
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        async with asyncio.timeout(30):
            while not (line := await process.stderr.readline()).startswith(b"DevTools listening"):
                if not line:
                    raise RuntimeError("Chromium ended before it listened")
        drain = asyncio.create_task(process.stderr.read())
        port = line.split(b"127.0.0.1:")[1].split(b"/")[0].decode()
        async with aiohttp.ClientSession() as http:
            yield Browser(http, f"http://127.0.0.1:{port}")
    finally:
        # Its helpers are in its session; some hold stderr open a little longer than it lives.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        if drain is not None:
            drain.cancel()
