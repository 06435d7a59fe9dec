"""The demo as a visitor meets it: the lines at the terminal, the browser, the page, the picture."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import urllib.request
import webbrowser

import pytest
from PIL import Image

from bot.cli import browser
from bot.cli.demo import FIRST_PROMPT
from bot.lab.tiny.evaluate.judge import judge
from tests.process.kit import PATIENCE_S
from tests.process.terminal_kit import terminal

# What the first prompt says, as the judges of `bench tiny` take it.
FACTS = {
    "kind": "thing",
    "style": "flat",
    "count": 1,
    "subjects": [{"form": "boat", "colour": "red"}],
    "background": ["blue"],
}
unix = pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")


def state(url: str) -> dict:
    with urllib.request.urlopen(f"{url}/user/state") as reply:
        return json.load(reply)


@unix
@pytest.mark.slow
@pytest.mark.engine
async def test_it_begins_with_a_right_picture_and_opens_the_browser(tmp_path):
    # A browser is any program that BROWSER names; this one says what it was given.
    opened = tmp_path / "opened"
    os.mkfifo(opened)
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    program.chmod(0o755)
    shown = {"DISPLAY": ":9", "BROWSER": f"{program} %s"}
    async with terminal(tmp_path, "demo", "--port", "0", "--data", "here", **shown) as at:
        async with asyncio.timeout(PATIENCE_S):
            address = (await asyncio.to_thread(opened.read_text)).strip()
        # The address is what is read first.
        assert at.shown.startswith(f"The demo is open at {address} (Ctrl+C ends it).\n")
        told = await asyncio.to_thread(state, address)
        assert told["bot"]["online"]
        assert "a toy of 11 million parameters" in told["notices"]["en-US"]
        assert "玩具模型" in told["notices"]["zh-CN"]
        await at.until("The picture was saved as ")
        await at.until(".png.\n")
        at.press(b"\x03")
        assert await at.end() == 0
    path = re.search(r"saved as (\S+\.png)\.", at.shown)[1]
    with Image.open(tmp_path / path) as picture:
        assert picture.text["parameters"].startswith(FIRST_PROMPT)
        verdicts = judge(FACTS, picture.convert("RGB"))
    assert verdicts == {"background": True, "thing": True, "colour": True}


@pytest.mark.slow
@unix
async def test_no_open_opens_none(tmp_path):
    mark = tmp_path / "opened"
    program = tmp_path / "browser"
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    shown = {"DISPLAY": ":9", "BROWSER": f"{program} %s"}
    options = ("--port", "0", "--data", "here", "--no-open")
    async with terminal(tmp_path, "demo", *options, **shown) as at:
        await at.until("accepted for user")  # It would have been opened before.
        at.press(b"\x03")
        assert await at.end() == 0
    assert not mark.exists()


@pytest.mark.parametrize(
    ("environment", "at_terminal", "looks"),
    [
        ({"DISPLAY": ":0"}, True, True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ({"DISPLAY": ":0"}, False, False),
        ({"DISPLAY": ":0", "CI": "true"}, True, False),
        ({"DISPLAY": "localhost:10.0", "SSH_CONNECTION": "1.2.3.4 5 6.7.8.9 22"}, True, False),
        ({}, True, False),
    ],
)
def test_a_browser_is_opened_where_somebody_looks(monkeypatch, environment, at_terminal, looks):
    monkeypatch.setattr(sys, "platform", "linux")
    assert browser.somebody_looks(environment, at_terminal=at_terminal) is looks
    # Elsewhere there is always a display.
    monkeypatch.setattr(sys, "platform", "darwin")
    remote = environment.keys() & {"CI", "SSH_CONNECTION"}
    assert browser.somebody_looks(environment, at_terminal=at_terminal) is (
        at_terminal and not remote
    )


def test_a_browser_that_cannot_be_started_is_no_fault(monkeypatch):
    tried = []

    def refuse(url: str) -> bool:
        tried.append(url)
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "open", refuse)
    browser._open("http://127.0.0.1:1")  # An exception of a thread would be an error of the tests.
    assert tried == ["http://127.0.0.1:1"]
