"""One life of the whole bot, with canaries for secrets: no byte that it leaves behind holds one."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bot.sandbox import interactions
from bot.sandbox.server import Sandbox
from tests.process.kit import HERE, PATIENCE_S, children, environment
from tests.process.test_backup import command
from tests.wire.kit import is_outcome, job_id_of, text_of
from tests.wire.test_pictures_in import png

ACCOUNT = "canary-in-the-place-of-the-bots-own-token"
TOKEN = "canary-in-the-place-of-an-interactions"
KEY = "canary-in-the-place-of-an-api-key"
EDIT_BY_TOKEN = ("PATCH", "/webhooks/*")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.timeout(240),
]


@pytest.fixture
async def sandbox(monkeypatch):
    monkeypatch.setattr(Sandbox, "token", ACCOUNT)
    made = interactions.secrets.token_hex
    monkeypatch.setattr(interactions.secrets, "token_urlsafe", lambda n: f"{TOKEN}-{made(n)}")
    async with Sandbox() as running:
        yield running


def holding(folder: Path, *canaries: str) -> list[str]:
    """The files below a folder whose bytes hold a canary, packed ones unpacked."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += [f"{path.name}: {canary}" for canary in canaries if canary.encode() in data]
    return found


def tokens(data: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{data / 'bot.sqlite3'}?mode=ro", uri=True)) as database:
        rows = database.execute("SELECT token FROM deliveries WHERE token IS NOT NULL")
        return [row[0] for row in rows.fetchall()]


def blanked(database: bytes, live: list[str]) -> bytes:
    for token in live:
        database = database.replace(token.encode(), b"")
    return database


def given_to(pid: int) -> bytes:
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes() for name in ("environ", "cmdline"))


async def outcome(sandbox: Sandbox, name: str, prompt: str, **options) -> str:
    """Ask for something and wait for its answer, whatever it is; return the job's id."""
    invocation = await sandbox.user(name).slash("art", "imagine", prompt=prompt, **options)
    return job_id_of(await invocation.until(is_outcome, PATIENCE_S))


async def test_a_life_with_failures_leaves_no_secret_behind(sandbox, tmp_path):
    data, backup = tmp_path / "data", tmp_path / "backup"
    data.mkdir()
    env = environment(sandbox, data) | {
        "DISCORD_TOKEN": ACCOUNT,
        "LOG_LEVEL": "DEBUG",
        "API_KEYS": f"caller:{KEY}",
        "HTTP_PORT": "0",
        "LIMIT_OPEN_JOBS": "50",
        "LIMIT_IMAGES_PER_DAY": "100",
    }
    said, errors = tmp_path / "stdout", tmp_path / "stderr"
    with said.open("wb") as out, errors.open("wb") as err:
        process = await asyncio.create_subprocess_exec(
            sys.executable, HERE / "run_with.py", "misbehaving",
            env=env, cwd=data, stdout=out, stderr=err,
        )  # fmt: skip
    try:
        await live(sandbox, data, process, errors)
        await asyncio.wait_for(command(sandbox, data, "backup", str(backup), "--images"), 50)
        assert holding(backup, ACCOUNT, KEY) == []
        copied = blanked((backup / "bot.sqlite3").read_bytes(), tokens(data))
        assert TOKEN.encode() not in copied, "but for the one that lives"
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert not (data / "bot.sqlite3-wal").exists()
    left = tokens(data)
    assert left, "the job that waited keeps its token until it expires"
    whole = blanked((data / "bot.sqlite3").read_bytes(), left)
    assert TOKEN.encode() not in whole
    assert holding(data, ACCOUNT, KEY) == []
    assert set(holding(data, TOKEN)) == {f"bot.sqlite3: {TOKEN}"}
    log = errors.read_text()
    for told in ("delivered by", "WARNING", "died", "raised", "postponed"):
        assert told in log, f"{told}: what a secret could hide in was logged"
    assert holding(tmp_path, ACCOUNT, KEY) == []
    for path in (said, errors):
        assert TOKEN not in path.read_text()


async def call(errors: Path) -> None:
    """Draw by the HTTP API with the key, without it, and with one that is nearly it."""
    log = await asyncio.to_thread(errors.read_text)
    (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", log.split("API", 1)[1]))
    door = "/api/v1/images/generate"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as client:
        body = {"prompt": "fine over HTTP", "width": 256, "height": 256}
        answers = [
            await client.post(door, json=body, headers={"Authorization": f"Bearer {key}"})
            for key in (KEY, f"{KEY}-not", KEY[:-1])
        ]
        answers.append(await client.post(door, content=f"{KEY}", headers={"X-Key": KEY}))
        answers.append(await client.get(f"/{KEY}?key={KEY}", headers={"Cookie": KEY}))
    assert [answer.status_code for answer in answers] == [200, 401, 401, 401, 401]
    assert not [answer for answer in answers if KEY in answer.text + str(answer.headers)]


async def live(
    sandbox: Sandbox, data: Path, process: asyncio.subprocess.Process, errors: Path
) -> None:
    """Draw, fail, crash, cancel, be refused by Discord; look at what is held meanwhile."""
    await sandbox.ready(PATIENCE_S)
    alice, bob = sandbox.user("alice"), sandbox.user("bob")
    await outcome(sandbox, "bob", "fine", image=("a.png", png()))
    await outcome(sandbox, "bob", "fine and private", private=True)
    await outcome(sandbox, "bob", "raise")
    await outcome(sandbox, "bob", "segv")
    sandbox.faults.respond(*EDIT_BY_TOKEN, 500)
    sandbox.faults.reset(*EDIT_BY_TOKEN, after=True)
    await outcome(sandbox, "bob", "fine after 500 and a cut")
    sandbox.faults.respond(*EDIT_BY_TOKEN, 401, times=None)
    refused = await bob.slash("art", "imagine", prompt="fine after 401")
    await refused.until(is_outcome, PATIENCE_S)
    sandbox.faults.clear()
    endless = await bob.slash("art", "imagine", prompt="steps")
    shown = await endless.until(lambda m: "of 1000000" in text_of(m), PATIENCE_S)
    await (await bob.press(shown, "Cancel")).answer()
    await endless.until(is_outcome, PATIENCE_S)
    await outcome(sandbox, "bob", "fine again")
    await call(errors)
    (child,) = children(process.pid)
    assert ACCOUNT.encode() not in given_to(child)
    assert TOKEN.encode() not in given_to(child)
    assert KEY.encode() not in given_to(child)

    exported = await bob.slash("art", "privacy export")
    await exported.until(lambda m: "Sent" in m.content, PATIENCE_S)
    archives = [file.data for m in bob.messages("dm") for file in m.files]
    assert archives
    for archive in map(io.BytesIO, archives):
        with zipfile.ZipFile(archive) as unpacked:
            for name in unpacked.namelist():
                read = unpacked.read(name)
                assert ACCOUNT.encode() not in read
                assert TOKEN.encode() not in read
    for exchange in sandbox.exchanges:
        assert ACCOUNT not in str(exchange.request)
    for person in (alice, bob):
        for place in ("art", "dm"):
            for message in person.messages(place):
                for file in message.files:
                    assert ACCOUNT.encode() not in file.data
                    assert TOKEN.encode() not in file.data

    await (await alice.slash("art", "admin pause")).response()
    await (await alice.slash("art", "imagine", prompt="waits")).response()
    live_ones = tokens(data)
    assert len(live_ones) == 1
    assert live_ones[0].startswith(TOKEN)
    for name in ("bot.sqlite3", "bot.sqlite3-wal"):
        assert ACCOUNT.encode() not in (data / name).read_bytes()
