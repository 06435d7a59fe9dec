"""What anyone may ask for without a key: the description, and whether the bot is ready."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import html
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path

from bot.http import readiness, viewers
from bot.http.description import page_of
from bot.http.readiness import FRESH_S, DatabaseCheck
from storage.database import Database
from tests.http.kit import ALICE, GENERATE, TWO_KEYS, opened

PAGE = Path(viewers.__file__).parent / "page"


class Names(HTMLParser):
    """Collects what a page is made of, and where it points."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[tuple[str, str | None]] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes.update(attrs)


async def test_the_description_for_people_runs_no_script_and_asks_nobody(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        page = await client.get("/docs")
        description = (await client.get("/openapi.json")).json()
    found = Names()
    found.feed(page.text)
    assert not found.tags & {"script", "iframe", "link", "img", "object", "base", "form"}
    names = {name for name, _ in found.attributes}
    assert not [name for name in names if name.startswith("on") or name in {"src", "style"}]
    assert {value for name, value in found.attributes if name == "href"} == {
        *("openapi.json", "docs/swagger", "docs/redoc"),
    }
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert page.headers["X-Frame-Options"] == "DENY"
    for path, operations in description["paths"].items():
        assert path in page.text
        for operation in operations.values():
            assert operation["summary"].replace("'", "&#x27;") in page.text
    drawn = description["paths"]["/api/v1/images/generate"]["post"]["requestBody"]["content"]
    for name in drawn["application/json"]["schema"]["properties"]:
        assert f"<code>{name}</code>" in page.text
    assert "<key>" not in page.text  # markup of our own texts


def test_a_form_is_described_with_its_files():
    form = {
        "required": ["image", "prompt"],
        "properties": {
            "image": {"type": "string", "format": "binary"},
            "prompt": {"type": "string"},
            "strength": {"type": "number", "maximum": 1},
        },
        "examples": [{"prompt": "'Hello' in neon"}],
    }
    operation = {
        "summary": "Draw over a picture",
        "requestBody": {"content": {"multipart/form-data": {"schema": form}}},
        "responses": {"204": {"description": "Nothing."}},
    }
    info = {"title": "A bot", "version": "1", "description": ""}
    page = html.unescape(page_of({"info": info, "paths": {"/edits": {"post": operation}}}))
    assert "-F 'image=@picture.png' \\\n  -F 'prompt='\\''Hello'\\'' in neon'</pre>" in page
    assert "<code>image</code></th><td>file; required" in page
    assert "<code>strength</code></th><td>number to 1" in page


async def test_each_page_is_written_once(sandbox, tmp_path, monkeypatch):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        app = api.stage.app.door._server.config.app._app
        describe, made = app.openapi, 0

        def count():
            nonlocal made
            made += 1
            return describe()

        monkeypatch.setattr(app, "openapi", count)
        asked = [client.get(path) for path in ("/openapi.json", "/docs") * 10]
        pages = await asyncio.gather(*asked)
        assert {page.status_code for page in pages} == {200}
        assert made == 1
        for page in pages[:2]:
            known = {"If-None-Match": page.headers["ETag"]}
            again = await client.get(page.request.url, headers=known)
            assert (again.status_code, again.content) == (304, b"")
        assert pages[0].headers["ETag"] != pages[1].headers["ETag"]


async def test_every_answer_forbids_frames_and_scripts(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client(ALICE) as client:
        for path in ("/healthz", "/v1/models", "/nowhere", "/metrics"):
            headers = (await client.get(path)).headers
            assert headers["X-Frame-Options"] == "DENY"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["Referrer-Policy"] == "no-referrer"


async def test_the_pages_with_scripts_ask_nobody_else(sandbox, tmp_path):
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        root = await client.get("/")
        assert (root.status_code, root.headers["Location"]) == (307, "docs")
        for path in ("/docs/swagger", "/docs/redoc"):
            page = await client.get(path)
            found = Names()
            found.feed(page.text)
            assert not found.tags & {"iframe", "img", "object", "base", "form", "style"}
            files = {v for n, v in found.attributes if n in {"src", "href"}} - {"data:,", "../docs"}
            assert all(name.startswith("files/") for name in files)
            assert len(files) >= 2
            policy = page.headers["Content-Security-Policy"]
            assert "script-src 'self';" in policy
            assert "connect-src 'self';" in policy
            assert "default-src 'none'" in policy
            for name in files:
                packed = await client.get(f"/docs/{name}")
                assert packed.headers["Content-Encoding"] == "gzip"
                plain = await client.get(f"/docs/{name}", headers={"Accept-Encoding": "identity"})
                assert "Content-Encoding" not in plain.headers
                assert plain.content == packed.content
                known = {"If-None-Match": plain.headers["ETag"]}
                assert (await client.get(f"/docs/{name}", headers=known)).status_code == 304
        for wrong in ("nothing.js", "%2e%2e/server.py", "LICENSES.txt.gz"):
            assert (await client.get(f"/docs/files/{wrong}")).status_code in {401, 404}


def test_others_files_are_as_they_were_published():
    notes = (PAGE / "LICENSES.txt").read_text()
    said = re.findall(r"^(\S+\.gz): .* SHA-256 ([0-9a-f]{64})$", notes, re.MULTILINE)
    assert {name for name, _ in said} == {path.name for path in PAGE.glob("*.gz")}
    for name, digest in said:
        assert hashlib.sha256(gzip.decompress((PAGE / name).read_bytes())).hexdigest() == digest
    assert "Apache License" in notes
    assert "The MIT License" in notes


async def test_every_answer_names_its_request(sandbox, tmp_path, caplog):
    caplog.set_level("INFO")
    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        paths = ("/healthz", "/nowhere", "/v1/models", "/docs")
        made = [(await client.get(path)).headers["X-Request-Id"] for path in paths]
        assert len(set(made)) == len(paths)
        theirs = {"X-Request-Id": "0af76519-16cd", "Authorization": f"Bearer {ALICE}"}
        drawn = await client.post(GENERATE, json={"prompt": "a house"}, headers=theirs)
        assert drawn.headers.get_list("X-Request-Id") == ["0af76519-16cd"]
        assert "accepted from the key alice, request 0af76519-16cd" in caplog.text
        for wrong in ("a" * 65, "a b", "\xe9", ""):
            headers = {"X-Request-Id": wrong.encode("latin-1")}
            answer = await client.get("/healthz", headers=headers)
            assert answer.headers["X-Request-Id"].startswith("req_")


async def test_the_database_is_asked_once_for_many_who_want_to_know(sandbox, tmp_path, monkeypatch):
    read, asked = Database.read, 0

    async def count(self, function):
        nonlocal asked
        asked += function is readiness.metrics.depth
        return await read(self, function)

    async with opened(sandbox, tmp_path, TWO_KEYS) as api, api.client() as client:
        monkeypatch.setattr(Database, "read", count)
        for name in ("FRESH_S", "PATIENCE_S"):
            monkeypatch.setattr(readiness, name, 600)
        answers = await asyncio.gather(*(client.get("/readyz") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}
    assert asked == 1


class Patient:
    """A database that answers as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.hangs: asyncio.Event | None = None

    async def read(self, _function):
        self.asked += 1
        if self.hangs:
            await self.hangs.wait()
        if self.error:
            raise self.error


async def test_a_database_that_fails_or_hangs_is_not_ready(monkeypatch, caplog):
    now, database = 0.0, Patient()
    check = DatabaseCheck(database, clock=lambda: now)
    assert await check.answers()
    now = FRESH_S / 2
    database.error = sqlite3.OperationalError("disk I/O error")
    assert (await check.answers(), database.asked) == (True, 1)
    for now in (FRESH_S, 2 * FRESH_S):  # noqa: B007 - the clock reads it
        assert not await check.answers()
    assert (database.asked, caplog.text.count("Traceback")) == (3, 1)
    database.error, database.hangs, now = None, asyncio.Event(), 3 * FRESH_S
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.01)
    assert not await check.answers()
    now = 9 * FRESH_S
    assert not await check.answers()
    assert database.asked == 4  # The one question is still open.
    database.hangs.set()
    monkeypatch.setattr(readiness, "PATIENCE_S", 600)
    assert await check.answers()
