"""The page's side over HTTP and WebSocket, and who is not let in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from bot.sandbox.server import Sandbox
from tests.sandbox.sandbox_bot import Bot, Controls, png

Session = aiohttp.ClientSession


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[Session]:
    async with aiohttp.ClientSession(sandbox.url) as session:
        yield session


async def post(http: Session, path: str, body: object) -> tuple[int, dict[str, object]]:
    async with http.post(path, json=body) as response:
        return response.status, await response.json()


async def event(ws: aiohttp.ClientWebSocketResponse, kind: str) -> dict[str, object]:
    while True:
        body = await ws.receive_json()
        if body["type"] == kind:
            return body


def at(sandbox: Sandbox, user: str, channel: str) -> str:
    return f"/user/{sandbox.user(user).id}/channels/{sandbox.world.channel(channel).id}"


async def test_state(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    async with http.get("/user/state") as response:
        state = await response.json()
    assert state["bot"]["online"] is True
    assert [user["name"] for user in state["users"]] == ["alice", "bob", "chen", "mallory"]
    assert [user["admin"] for user in state["users"]] == [True, False, False, False]
    assert state["users"][2]["display_name"] == "小晨"
    assert [c["name"] for c in state["guilds"][0]["channels"]][:2] == ["general", "art"]
    assert set(state["dms"]) == {user["id"] for user in state["users"]}
    assert "draw" in {command["name"] for command in state["commands"]}


async def test_command_events_and_button(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    alice = sandbox.user("alice")
    async with http.ws_connect(f"/user/{alice.id}/events") as ws:
        body = {"name": "draw", "options": {"prompt": "a lighthouse", "steps": "4"}}
        status, reply = await post(http, f"{at(sandbox, 'alice', 'general')}/commands", body)
        assert status == 200
        created = (await event(ws, "message_create"))["message"]
        assert created["thinking"] is True
        assert created["interaction"] == {"name": "draw", "user_id": str(alice.id)}
        while not (message := (await event(ws, "message_update"))["message"])["attachments"]:
            assert message["content"] == "drawing 4"
        async with http.get(message["attachments"][0]["url"]) as response:
            assert response.content_type == "image/png"
            assert await response.read() == bot.picture
        path = f"/user/{alice.id}/messages/{message['id']}/components"
        status, reply = await post(http, path, {"custom_id": "form"})
        modal = await event(ws, "modal")
        assert modal["interaction_id"] == reply["interaction_id"]
        path = f"/user/{alice.id}/modals/{modal['interaction_id']}"
        status, _ = await post(http, path, {"components": {"line": "O tree", "kind": ["Haiku"]}})
        assert status == 200
        assert (await event(ws, "message_create"))["message"]["content"] == "O tree / Haiku"
        bot.gate.clear()
        await post(http, f"{at(sandbox, 'alice', 'general')}/commands", {"name": "late"})
        sandbox.clock.advance(4)
        failed = await event(ws, "interaction_failed")
        assert failed["sentence"] == "The application did not respond"
    async with http.get(f"{at(sandbox, 'alice', 'general')}/messages?limit=1") as response:
        newest = await response.json()
    assert [message["ephemeral"] for message in newest] == [True]
    async with http.get(f"{at(sandbox, 'bob', 'general')}/messages") as response:
        assert [m["content"] for m in await response.json()] == ["a lighthouse"]


async def test_refusals_are_sentences(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    body = {"name": "admin queue", "options": {}}
    status, reply = await post(http, f"{at(sandbox, 'bob', 'general')}/commands", body)
    assert (status, reply["message"]) == (403, "You may not use /admin here.")
    body = {"name": "draw", "options": {}}
    status, reply = await post(http, f"{at(sandbox, 'bob', 'general')}/commands", body)
    assert (status, reply["message"]) == (400, "The option prompt is required.")
    status, _ = await post(http, f"{at(sandbox, 'bob', 'staff')}/messages", {"content": "hi"})
    assert status == 404
    status, _ = await post(http, f"{at(sandbox, 'bob', 'general')}/messages", {"content": ""})
    assert status == 400


async def test_autocomplete(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    body = {"name": "pick", "options": {"colour": "re"}, "focused": "colour"}
    _, reply = await post(http, f"{at(sandbox, 'bob', 'general')}/autocomplete", body)
    assert reply == {"choices": [{"name": "red", "value": "red"}]}


async def test_uploads(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    def form(body: object) -> aiohttp.FormData:
        data = aiohttp.FormData(quote_fields=False)
        data.add_field("payload_json", json.dumps(body))
        data.add_field("files[0]", picture, filename="my own.png", content_type="image/png")
        return data

    picture = png((40, 40))
    path = at(sandbox, "bob", "general")
    async with http.post(f"{path}/messages", data=form({"content": "look"})) as response:
        message = await response.json()
    assert message["attachments"][0]["filename"] == "my_own.png"
    body = {"name": "draw", "options": {"prompt": "copy", "image": 0}}
    async with http.post(f"{path}/commands", data=form(body)) as response:
        key = int((await response.json())["interaction_id"])
    call = sandbox.world.interactions[key]
    await sandbox.wait(lambda: call.original and call.original.attachments)
    assert call.original is not None
    assert call.original.attachments[0].data == picture


async def test_direct_message_and_reply(sandbox: Sandbox, bot: Bot, http: Session) -> None:
    chen = sandbox.user("chen")
    channel = sandbox.world.dm(chen.user)
    path = f"/user/{chen.id}/channels/{channel.id}/messages"
    _, first = await post(http, path, {"content": "画一棵树"})
    heard = await bot.heard.get()
    await heard.reply("好", view=Controls())
    body = {"content": "谢谢", "message_reference": {"message_id": first["id"]}}
    _, second = await post(http, path, body)
    assert second["message_reference"]["message_id"] == first["id"]
    async with http.get(path) as response:
        texts = [message["content"] for message in await response.json()]
    assert texts == ["画一棵树", "好", "谢谢"]
    async with http.get(path.replace(str(chen.id), str(sandbox.user("bob").id))) as response:
        assert response.status == 404


@pytest.mark.parametrize("path", ["/user/state", "/api/v10/gateway", "/"])
async def test_other_host_names_are_refused(http: Session, path: str) -> None:
    async with http.get(path, headers={"Host": "evil.example"}) as response:
        assert response.status == 403


async def test_other_origins_are_refused(sandbox: Sandbox, http: Session) -> None:
    path = at(sandbox, "bob", "general")
    headers = {"Origin": "http://evil.example"}
    async with http.post(f"{path}/messages", json={"content": "x"}, headers=headers) as response:
        assert response.status == 403
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await http.ws_connect(f"/user/{sandbox.user('bob').id}/events", headers=headers)
    headers = {"Origin": sandbox.url}
    async with http.post(f"{path}/messages", json={"content": "x"}, headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(("path", "status"), [("/user/state", 403), ("/", 200)])
async def test_links_from_other_sites_only_open_the_page(
    http: Session, path: str, status: int
) -> None:
    async with http.get(path, headers={"Sec-Fetch-Site": "cross-site"}) as response:
        assert response.status == status


async def test_uploaded_html_does_not_run(sandbox: Sandbox, http: Session) -> None:
    message = await sandbox.user("bob").send("general", "", [("x.html", b"<script>1</script>")])
    async with http.get(message.attachments[0].url) as response:
        assert response.headers["Content-Disposition"] == "attachment"
        assert "sandbox" in response.headers["Content-Security-Policy"]


async def test_page_is_served(http: Session) -> None:
    async with http.get("/") as response:
        assert response.content_type == "text/html"
    async with http.get("/page/app.js") as response:
        assert "javascript" in response.content_type
