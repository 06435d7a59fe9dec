"""Clients in JavaScript, in Node: OpenAI's own, and one that is generated from /openapi.json."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.http.kit import ALICE, TWO_KEYS, opened
from tests.http.test_edits import OTHER, TALL
from tests.http.test_edits_by_words import SQUARE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
HERE = Path(__file__).parent / "javascript"
PACKAGES = Path(os.environ.get("NODE_PACKAGES", HERE)) / "node_modules"
COMPILER = ("--strict", "--noUncheckedIndexedAccess", "--target", "es2022", "--lib", "es2022,dom,dom.iterable,dom.asynciterable",
            "--module", "commonjs", "--moduleResolution", "node10", "--types", "node", "--skipLibCheck", "--outDir", "built")  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """A folder with the scripts and the packages that they import."""
    if shutil.which("node") is None:
        pytest.skip("Node is not installed")
    if not PACKAGES.is_dir():
        pytest.skip("run `npm ci` in tests/http/javascript, or set NODE_PACKAGES (CONTRIBUTING.md)")
    copy = tmp_path / "javascript"
    shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("node_modules"))
    (copy / "node_modules").symlink_to(PACKAGES.resolve(), target_is_directory=True)
    for name, data in (("one.png", OTHER), ("two.png", TALL), ("mask.png", SQUARE)):
        (copy / name).write_bytes(data)
    return copy


async def node(folder: Path, *arguments: str) -> bytes:
    """Run Node; return what it writes to its output."""
    process = await asyncio.create_subprocess_exec(
        "node", *arguments, cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    assert process.returncode == 0, (said + errors).decode()
    return said


def formats(pictures: list[str]) -> list[str | None]:
    found = []
    for picture in pictures:
        with Image.open(io.BytesIO(base64.b64decode(picture))) as opened_picture:
            found.append(opened_picture.format)
    return found


async def test_openais_client_for_javascript(sandbox, tmp_path, folder):
    async with opened(sandbox, tmp_path / "bot", TWO_KEYS, image_models="tiny-edit") as api:
        said: dict[str, Any] = json.loads(
            await node(folder, "openai.mjs", api.url, ALICE, "one.png", "two.png", "mask.png")
        )
        masked, seen = api.stage.engine.requests[1], api.stage.engine
        assert (seen.references[masked.job_id], seen.masks[masked.job_id]) == (
            [OTHER, TALL],
            SQUARE,
        )
    assert formats(said["generated"]) == ["PNG", "PNG"]
    assert formats(said["edited"]) == ["PNG"]
    assert said["streams"] == [
        ["image_generation.partial_image", True],
        ["image_generation.completed", True],
        ["image_edit.partial_image", True],
        ["image_edit.completed", True],
    ]
    assert said["model"] == "tiny"
    assert said["refused"] == ["BadRequestError", 400, "size", True]


async def test_a_generated_client_compiles_and_works(sandbox, tmp_path, folder):
    async with opened(sandbox, tmp_path / "bot", TWO_KEYS, image_models="tiny-edit") as api:
        async with api.client() as client:
            described: httpx.Response = await client.get("/openapi.json")
        await asyncio.to_thread((folder / "openapi.json").write_bytes, described.content)
        tool = "node_modules/@hey-api/openapi-ts/bin/run.js"
        await node(folder, tool, "-i", "openapi.json", "-o", "client", "--no-log-file", "-s")
        await node(folder, "node_modules/typescript/bin/tsc", *COMPILER, "generated.ts")
        (folder / "built" / "package.json").write_text('{"type": "commonjs"}')
        said: dict[str, Any] = json.loads(
            await node(folder, "built/generated.js", api.url, ALICE, "one.png", "two.png")
        )
        edited, seen = api.stage.engine.requests[-1], api.stage.engine
        assert seen.references[edited.job_id] == [OTHER, TALL]
    assert said["pictures"] == 2
    assert said["queued"][0] == 202
    assert said["events"] >= 1
    assert said["ended"] == ["generated", 1]
    assert said["listed"]
    assert said["models"] == ["tiny", "tiny-edit"]
    assert said["edited"] == 1
    assert said["late"] == [409, "This job is already done."]
