"""`python -m bot setup`, as a newcomer runs it: at a terminal, and without one."""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dotenv import dotenv_values
from PIL import Image

from bot.client.login import SANDBOX_TOKEN, invitation
from bot.sandbox.server import Sandbox
from tests.engine.hub import Hub
from tests.engine.small_models import QWEN, write
from tests.process.kit import HERE, PATIENCE_S, ROOT
from tests.process.setup_with import SIZE
from tests.process.terminal_kit import bare_environment, terminal

pytestmark = [pytest.mark.engine, pytest.mark.timeout(500)]

OWNER = "1100000000000000042"
# Of the right form, and no bot's at the loopback Discord; too short to be a real one.
REFUSED = f"{base64.urlsafe_b64encode(b'1' * 17).decode().rstrip('=')}.x.canary"
SMALL = (HERE / "setup_with.py").as_posix()


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[Hub]:
    root = tmp_path_factory.mktemp("published")
    write(QWEN, root)
    files = {
        path.relative_to(root / QWEN).as_posix(): path.read_bytes()
        for path in sorted((root / QWEN).rglob("*"))
        if path.is_file()
    }
    with Hub(files) as running:
        yield running


def told(hub: Hub, sandbox: Sandbox, folder: Path) -> dict[str, str]:
    return {
        "DISCORD_API_URL": sandbox.api_url,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "IMAGE_QUALITY_STANDARD": "2:1.0",
        "IMAGE_COMPILE": "false",
        "ENGINE_CONFINEMENT": "off",  # The small model stands in the folder of the tests.
    }


async def unattended(
    folder: Path, *options: str, command: str = "setup", **environment: str
) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, SMALL, command, *options, cwd=folder, env=bare_environment(**environment),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, errors = await process.communicate()
    return process.returncode, said.decode(), errors.decode()


def the_picture_is_there(folder: Path) -> None:
    with Image.open(folder / "test-output" / "portrait.png") as image:
        assert image.size == SIZE
        assert len(image.convert("L").getcolors()) > 8
    model = folder / "models/images/qwen-image" / QWEN
    # The published files of what is in the weights cache are gone.
    assert {path.parent.name for path in model.rglob("*.safetensors")} == {"vae"}
    assert list(model.glob("*-cache/transformer.weights"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no ptys")
async def test_a_newcomer_comes_to_a_picture(hub, tmp_path):
    async with (
        Sandbox() as sandbox,
        terminal(tmp_path, "setup", program=(SMALL,), **told(hub, sandbox, tmp_path)) as at,
    ):
        await at.until("Token (paste it, then Enter):")
        at.press(b"abc\n")
        # Asked again: until then the terminal would show what is typed.
        await at.until("application id are none.\nToken (paste it, then Enter):")
        at.press(f"{REFUSED}\n".encode())
        await at.until("cannot be used: Discord refuses it.\nToken (paste it, then Enter):")
        at.press(f"{SANDBOX_TOKEN}\n".encode())
        await at.until("Invite the bot to your server:")
        assert invitation(sandbox.world.application_id) in at.shown
        await at.until("Model, by number or name: [tiny]")
        at.press(b"99\n")
        await at.until("it names no model, or several")
        at.press(b"3\n")
        await at.until("It allows no commercial use. Is that all right? [n]")
        at.press(b"y\n")
        await at.until("takes 4 steps instead of 20")
        at.press(b"n\n")
        await at.until("or Enter:")
        at.press(b"12\n")
        await at.until("a user id has 17 to 20 digits")
        at.press(f"{OWNER}\n".encode())
        # Until here it imports PyTorch twice, in two processes.
        await at.until("Start it:", 4 * PATIENCE_S)
        assert await at.end() == 0
        assert "Start it: python -m bot run" in at.shown
        for secret in (SANDBOX_TOKEN, REFUSED, "abc\n"):
            assert secret not in at.shown
    values = dotenv_values(tmp_path / ".env")
    assert values["DISCORD_TOKEN"] == SANDBOX_TOKEN
    assert (values["IMAGE_MODEL_NAME"], values["OWNER_IDS"]) == (QWEN, OWNER)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    the_picture_is_there(tmp_path)


@pytest.mark.slow
async def test_nobody_is_asked_where_options_answer(hub, tmp_path):
    (tmp_path / "token").write_text(f"{SANDBOX_TOKEN}\n")
    (tmp_path / ".env").write_text("# mine\nLIMIT_OPEN_JOBS=2\nSOMETHING=else\n")
    options = ["--yes", "--token-file", "token", "--model", "2.1", "--owner", OWNER]
    options += ["--no-lightning"]
    async with Sandbox() as sandbox:
        environment = told(hub, sandbox, tmp_path)
        code, said, errors = await unattended(tmp_path, *options, **environment)
        assert code == 78
        assert "allows no commercial use: accept it with --accept-licence." in errors
        hub.unknown = {QWEN}
        code, said, errors = await unattended(tmp_path, *options, "--accept-licence", **environment)
        hub.unknown = set()
        assert (code, f"knows no model {QWEN}" in errors) == (1, True), said
        assert "Kept in .env: IMAGE_MODEL_NAME." in said
        code, said, errors = await unattended(tmp_path, "--yes", "--no-lightning", **environment)
        assert (code, "Traceback" in errors) == (0, False), errors
        # What was answered before is asked of nobody, and nothing is written again.
        assert "Kept in .env" not in said
        assert f"IMAGE_MODEL_NAME is set: {QWEN}." in said
    assert invitation(sandbox.world.application_id) in said
    assert SANDBOX_TOKEN not in said
    text = (tmp_path / ".env").read_text("utf-8")
    assert text == (
        f"# mine\nLIMIT_OPEN_JOBS=2\nSOMETHING=else\nDISCORD_TOKEN={SANDBOX_TOKEN}\n"
        f"IMAGE_MODEL_NAME={QWEN}\nOWNER_IDS={OWNER}\n"
    )
    the_picture_is_there(tmp_path)


@pytest.mark.slow
async def test_the_doctor_finds_no_fault_after_it(hub, tmp_path):
    (tmp_path / "token").write_text(f"{SANDBOX_TOKEN}\n")
    async with Sandbox() as sandbox:
        environment = told(hub, sandbox, tmp_path)
        options = ("--yes", "--token-file", "token", "--model", "tiny")
        code, said, errors = await unattended(tmp_path, *options, **environment)
        assert code == 0, said + errors
        code, said, errors = await unattended(tmp_path, command="doctor", **environment)
    assert code == 0, said + errors
    found = {line.split()[0] for line in said.splitlines() if line[:1].strip()}
    assert "OK" in found
    assert "ERROR" not in found


@pytest.mark.slow
async def test_without_an_answer_it_names_the_option_and_writes_nothing(tmp_path):
    code, _, errors = await unattended(tmp_path)
    assert (code, "There is no terminal to ask at: give --yes" in errors) == (78, True)
    code, _, errors = await unattended(tmp_path, "--yes")
    assert (code, "give --token-file" in errors) == (78, True)
    (tmp_path / "token").write_text(REFUSED[:-3] + "???")
    code, said, errors = await unattended(tmp_path, "--yes", "--token-file", "token")
    assert (code, "This token cannot be used" in errors) == (78, True)
    assert "canary" not in said + errors
    assert not (tmp_path / ".env").exists()


async def test_a_discord_that_is_silent_is_told_and_the_form_counts(tmp_path):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # nobody else gets this port, and nobody listens
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/api/v10"
        code, said, errors = await unattended(
            tmp_path, "--yes", "--model", "tiny", "--no-download",
            DISCORD_TOKEN=REFUSED, DISCORD_API_URL=url,
        )  # fmt: skip
    assert code == 0, errors
    assert "Discord could not be asked, so only the form of the token was checked" in said
    assert "canary" not in said + errors
    # It stands in the environment, so it is not written down.
    assert "canary" not in (tmp_path / ".env").read_text("utf-8")


async def test_it_speaks_chinese_where_the_terminal_does(tmp_path):
    code, _, errors = await unattended(tmp_path, LANG="zh_CN.UTF-8")
    assert code == 78
    assert "--yes" in errors
    assert any("一" <= letter <= "鿿" for letter in errors)


def test_make_asks_where_there_is_no_env():
    text = (ROOT / "Makefile").read_text("utf-8")
    assert "test -f .env || $(RUN) -m bot setup" in text
