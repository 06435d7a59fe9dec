"""The making of `installation.tar.xz`, with the code of commit c520ff5; README.md tells how.

The bot ran as a process of its own against that commit's sandbox, and was killed (SIGKILL) with a
job drawing, two waiting and an answer on its way. What stood in the sandbox is kept as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
import tarfile
from pathlib import Path
from typing import Any

from model import write_model
from story import OldBot, Story, free_port

from tests.crash.pipeline import Painter
from tests.crash.runner import TINY

HERE = Path(__file__).parent

DOTENV = """\
# Written for the bot of commit c520ff5.
DISCORD_TOKEN=sandbox-token
DISCORD_API_URL=http://127.0.0.1:4000/api/v10
DATA_DIR=data
IMAGE_MODEL_NAME=tiny
IMAGE_MODEL_PATH=models/images/qwen-image
MODEL_SOURCE=modelscope
IMAGE_LORA_PATH=models/loras
IMAGE_LORAS=Ink=ink_v2:0.8 (ink drawing), *
IMAGE_GPU_MEMORY_UTILIZATION=0.6
IMAGE_VRAM_GB=10.5
ENGINES=local:2
RAY_ADDRESS=head:6379
IMAGE_OFFLOAD=stream
IMAGE_PRECISION=fp8-fast
IMAGE_COMPILE=False
IMAGE_COMPILE_WAIT_SECONDS=30
IMAGE_IDLE_UNLOAD_MINUTES=15
IMAGE_QUALITY_FAST=3:1.0
IMAGE_QUALITY_STANDARD=4:3.5
IMAGE_QUALITY_HIGH=6:4.5
IMAGE_PROMPT_SUFFIX=True
ON_RESTART=resume
LIMIT_OPEN_JOBS=6
LIMIT_IMAGES_PER_DAY=90
LIMIT_GPU_SECONDS_PER_DAY=5400
LIMIT_DM_IMAGES_PER_DAY=40
LIMIT_DM_GPU_SECONDS_PER_DAY=1800
LIMIT_SERVER_IMAGES_PER_DAY=700
LIMIT_SERVER_GPU_SECONDS_PER_DAY=30000
LIMIT_COOLDOWN_SECONDS=0.01
LIMIT_QUEUE_SIZE=400
LIMIT_SERVER_QUEUE_SIZE=200
RETENTION_DAYS=36500
API_KEYS=alice:alices-key-0123456789, bob:bobs-key-9876543210
HTTP_HOST=127.0.0.1
HTTP_PORT=8123
HTTP_WAIT_SECONDS=45
IMAGE_CHECK=False
IMAGE_CHECK_THRESHOLD=0.75
LOG_PROMPTS=True
LOG_LEVEL=WARNING
LOG_DIR=logs
OWNER_IDS=1100000000000000203
"""


class Fallible(Painter):
    """Draws as the painter of the crash tests, and fails at prompts that begin with "broken"."""

    def generate(self, request, report):
        if request.prompt.startswith("broken"):
            raise ValueError("made to fail")
        yield from super().generate(request, report)


def build(model: str, options: Any) -> Fallible:
    return Fallible(model, options.model_path)


def scene(story: Story, blobs: Path) -> dict[str, Any]:
    """What stands in the sandbox; files beside it by their hashes."""
    world = story.sandbox.world
    messages, interactions = [], {}
    for channel in world.channels.values():
        for message in channel.messages.values():
            files = []
            for file in message.files:
                digest = hashlib.sha256(file.data).hexdigest()
                (blobs / digest).write_bytes(file.data)
                files.append(
                    {
                        "id": file.id, "filename": file.filename, "sha256": digest,
                        "content_type": file.content_type, "url": file.url,
                        "description": file.description,
                        "width": file.width, "height": file.height,
                    }
                )  # fmt: skip
            if message.interaction is not None:
                interactions[message.interaction.id] = message.interaction
            messages.append(
                {
                    "id": message.id, "channel": channel.id, "author": message.author.id,
                    "created": message.created, "type": message.type,
                    "content": message.content, "embeds": message.embeds,
                    "components": message.components, "files": files, "flags": int(message.flags),
                    "edited": message.edited, "nonce": message.nonce,
                    "mentions": [user.id for user in message.mentions],
                    "interaction": message.interaction and message.interaction.id,
                    "reference": message.reference and message.reference.id,
                    "visible_to": message.visible_to and message.visible_to.id,
                }
            )  # fmt: skip
    for key in story.forms.values():
        interactions[key] = world.interactions[key]
    return {
        "messages": messages,
        "interactions": [
            {
                "id": one.id, "type": int(one.type), "user": one.user.id,
                "channel": one.channel.id, "created": one.created, "name": one.name,
                "message": one.message and one.message.id,
                "modal": one.modal and {
                    "custom_id": one.modal.custom_id, "title": one.modal.title,
                    "components": one.modal.components,
                },
            }
            for one in interactions.values()
        ],
        "jobs": story.jobs, "named": story.messages, "forms": story.forms,
    }  # fmt: skip


def write_settings(root: Path) -> None:
    """Note what the old code read in the `.env`."""
    from bot.settings import load_settings

    settings = load_settings(_env_file=root / ".env")
    values = settings.model_dump(mode="json", exclude={"api_keys", "discord_token"})
    values["owner_ids"] = sorted(values["owner_ids"])
    values["discord_token"] = settings.discord_token.get_secret_value()
    values["api_keys"] = dict.fromkeys(settings.api_keys.names)
    for name, key in (("alice", "alices-key-0123456789"), ("bob", "bobs-key-9876543210")):
        values["api_keys"][name] = settings.api_keys.find(f"Bearer {key}").user_id
    (root / "expected").mkdir(exist_ok=True)
    (root / "expected" / "settings.json").write_text(json.dumps(values, indent=1, sort_keys=True))


async def tell(root: Path) -> None:
    from bot.sandbox.server import Sandbox

    async with Sandbox() as sandbox:
        bot = OldBot(sandbox, root)
        story, port = Story(bot), free_port()
        await bot.start(TINY, port)
        await story.first_day()
        await bot.end(signal.SIGTERM)
        await bot.start("make:build", port)
        await story.server()
        await story.people()
        await story.pictures()
        await story.over_http(port)
        await story.incidents()
        await story.left_open()
        await story.last_moments(port)
        blobs = root / "discord"
        blobs.mkdir()
        text = json.dumps(scene(story, blobs), ensure_ascii=False, indent=1, default=str)
        text = text.replace(sandbox.url, "SANDBOX")
        (blobs / "scene.json").write_text(text, encoding="utf-8")


def main(root: Path) -> None:
    root.mkdir(parents=True)
    (root / ".env").write_text(DOTENV)
    shelf = root / "models" / "loras"
    shelf.mkdir(parents=True)
    (shelf / "ink_v2.safetensors").touch()
    write_settings(root)
    os.chdir(root)
    write_model(root)
    asyncio.run(tell(root))


def pack(root: Path, archive: Path) -> None:
    def kept(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        parts = Path(entry.name).parts
        return None if "logs" in parts or entry.name.endswith(".lock") else entry

    with tarfile.open(archive, "w:xz", preset=9) as made:
        for path in sorted(root.iterdir()):
            made.add(path, path.name, filter=kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
    pack(Path(sys.argv[1]).resolve(), HERE / "installation.tar.xz")
