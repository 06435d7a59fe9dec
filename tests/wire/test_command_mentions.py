"""Commands that sentences name can be clicked, where their ids are known."""

from __future__ import annotations

import pytest

from bot.messages.command_mentions import learn, linked
from bot.words import speaking
from tests.wire.kit import staged, text_of

IDS = {"imagine": 1, "show": 2, "limit": 3, "limits": 4, "admin engine resume": 5}


@pytest.fixture
def known():
    learn(IDS)
    yield
    learn({})


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("ask anew with /imagine.", "ask anew with </imagine:1>."),
        ("`/show` brings it", "</show:2> brings it"),
        ("until /admin engine resume.", "until </admin engine resume:5>."),
        ("see /limits", "see </limits:4>"),
        # Its options go on, an address, a command that nobody knows, an unknown part.
        ("`/imagine prompt: x`", "`/imagine prompt: x`"),
        ("https://example.org/show", "https://example.org/show"),
        ("/shower and /admin pause", "/shower and /admin pause"),
        ("</show:9>", "</show:9>"),
    ],
)
def test_sentences(sentence, shown):
    assert linked(sentence) == shown
    assert linked(shown) == shown


@pytest.mark.usefixtures("known")
def test_chinese_names_lead_to_the_same_commands():
    with speaking("zh-CN"):
        assert linked("请用 /画图 重新请求。") == "请用 </imagine:1> 重新请求。"
        assert linked("用 `/查看` 取回") == "用 </show:2> 取回"


def test_without_ids_a_sentence_stays():
    learn({})
    assert linked("see `/show`") == "see `/show`"


async def test_ids_are_known_from_the_sync_and_after_a_restart_without_one(sandbox, tmp_path):
    bob = sandbox.user("bob")

    async def helped() -> str:
        return (await (await bob.slash("general", "help")).answer()).content

    def asked(method: str) -> int:
        path = "/applications/{application_id}/commands"
        return len([e for e in sandbox.exchanges if (e.method, e.route) == (method, path)])

    async with staged(sandbox, tmp_path) as stage:
        ids = {one.name: one.id for one in await stage.app.client.tree.fetch_commands()}
        first = await helped()
        assert f"</imagine:{ids['imagine']}>" in first
        assert f"</privacy export:{ids['privacy']}>" in first
    synced, fetched = asked("PUT"), asked("GET")
    async with staged(sandbox, tmp_path):
        assert await helped() == first
    assert (asked("PUT"), asked("GET")) == (synced, fetched + 1)


async def test_without_them_the_bot_starts_and_its_sentences_are_plain(sandbox, tmp_path):
    async with staged(sandbox, tmp_path):
        pass
    down = sandbox.faults.respond("GET", "/applications/*/commands", 403, code=50001, times=None)
    async with staged(sandbox, tmp_path):
        page = await (await sandbox.user("bob").slash("general", "help")).answer()
    assert down.hits == 1
    assert "`/queue`" in page.content
    assert "</" not in page.content


async def test_what_a_user_typed_is_no_command(stage):
    """Neither in a card nor in a list, though it is written as one."""
    bob = stage.sandbox.user("bob")
    message = await stage.outcome(await stage.imagine("bob", "`/show` and /imagine"))
    assert "</" not in text_of(message)
    await (await bob.slash("general", "admin style list", force=True)).answer()
    page = await (await bob.slash("general", "history")).until(lambda m: bool(m.files))
    assert "</show" not in page.content
    assert "</imagine" not in page.content
