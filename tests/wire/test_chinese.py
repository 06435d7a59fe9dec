"""A user whose Discord is in Chinese reads nothing else; the languages stay apart."""

from __future__ import annotations

import re

from tests.engines import Script, ScriptedEngine
from tests.wire.kit import job_id_of, soon, staged, text_of

CHINESE = re.compile("[\u4e00-\u9fff]")
# Words that stay: identifiers, units, the prompt itself.
LATIN = re.compile(r"\]\(https:[^)]*\)|<[^>]+>|`[^`]*`|\d+x\d+|\b01[0-9a-z]{16}\b|\bs\b")


def judge(text: str) -> None:
    assert CHINESE.search(text), text
    assert not re.search(r"[A-Za-z]{3,}", LATIN.sub("", text)), text


def labels(message) -> list[str]:
    return [str(item.get("label") or item.get("placeholder")) for item in message.controls]


async def test_waiting_drawing_and_the_answer(sandbox, tmp_path):
    engine = ScriptedEngine(Script(hold_at=2))
    async with staged(sandbox, tmp_path, engine) as stage:
        first = await stage.imagine("chen", "灯塔")
        message = await first.answer()
        judge(text_of(message))
        assert labels(message) == ["取消"]
        await soon(engine.holding.wait())
        second = await stage.imagine("chen", "小船", count=2)
        waiting = await second.answer()
        judge(text_of(waiting))
        english = await (await stage.imagine("bob", "a boat")).answer()
        assert "job ahead" in text_of(english)
        listing = await (await sandbox.user("chen").slash("general", "queue")).answer()
        judge(listing.content)
        engine.release.set()
        answer = await stage.outcome(first)
        judge(text_of(answer))
        assert labels(answer) == ["编辑", "重画", "变化", "改写", "放大", "详情", "删除", "更多"]
        batch = await stage.outcome(second)
        assert "删除" in labels(batch)
        assert (await stage.job_of(answer)).locale == "zh_CN"


async def test_refusals_and_faults(sandbox, tmp_path):
    engine = ScriptedEngine(Script(error=RuntimeError("boom")), Script(error=RuntimeError("boom")))
    async with staged(sandbox, tmp_path, engine, limit_open_jobs=1) as stage:
        chen = sandbox.user("chen")
        failed = await stage.outcome(await stage.imagine("chen", "灯塔"))
        judge(text_of(failed).replace(job_id_of(failed), ""))
        for command, options in (
            ("show", {"job": "nothing"}),
            ("imagine", {"prompt": "灯塔", "strength": 0.5}),
            ("imagine", {"prompt": "灯塔", "style": "nothing"}),
            ("history", {}),
        ):
            judge((await (await chen.slash("general", command, **options)).answer()).content)
        help_page = await (await chen.slash("general", "help")).answer()
        assert "说出你想看到的画面" in help_page.content


async def test_pauses_and_blocks_speak_to_whom_they_concern(sandbox, tmp_path):
    alice, chen = sandbox.user("alice"), sandbox.user("chen")
    async with staged(sandbox, tmp_path, ScriptedEngine()) as stage:
        said = await (await alice.slash("general", "admin pause")).answer()
        assert "maintenance" in said.content
        waiting = await stage.imagine("chen", "灯塔")
        judge(text_of(await waiting.answer()))
        await (await alice.slash("general", "admin block add", user=chen.id, hours=1)).answer()
        judge(text_of(await stage.outcome(waiting)))
        refused = (await (await stage.imagine("chen", "灯塔")).answer()).content
        judge(refused)
        # Discord itself writes "in an hour" there, as "1小时后".
        assert ">后" not in refused


async def test_the_commands_have_chinese_names(stage):
    commands = await stage.app.client.http.get_global_commands(stage.app.client.application_id)
    for kind in (1, 3):
        siblings([command for command in commands if command["type"] == kind])


def siblings(entries) -> None:
    """Judge commands or options of one level, and all below: translated, and told apart by name."""
    for entry in entries:
        names = entry["name_localizations"]
        assert names["zh-CN"] == names["zh-TW"]
        if entry["type"] != 3 or entry.get("description"):
            assert CHINESE.search(entry["description_localizations"]["zh-CN"]), entry["name"]
        for choice in entry.get("choices", []):
            translated = choice["name_localizations"]["zh-CN"]
            assert CHINESE.search(translated) or not re.search("[A-Za-z]{3,}", translated), choice
        siblings(entry.get("options", []))
    translated = [entry["name_localizations"]["zh-CN"] for entry in entries]
    assert all(map(CHINESE.search, translated))
    assert len(set(translated)) == len(translated), translated


async def test_the_language_can_be_chosen(stage):
    bob = stage.sandbox.user("bob")
    panel = await (await bob.slash("general", "settings")).answer()
    assert "Your settings" in panel.embeds[0]["title"]
    chosen = await bob.select(panel, "prefs:user:language", "zh_CN")
    await chosen.response()
    assert "你的设置" in panel.embeds[0]["title"]
    answer = await stage.outcome(await stage.imagine("bob", "灯塔"))
    judge(text_of(answer))
    await bob.send("dm", "灯塔")
    await stage.sandbox.wait(lambda: len(bob.messages("dm")) > 1)
    judge(text_of(bob.messages("dm")[1]))
