"""The Ray actor of an engine on the GPU's node, which holds the child there.

It lengthens the pipe: frames go through as they are, except that files travel as bytes. Ray gives
the actor its card (`CUDA_VISIBLE_DEVICES`), which the child inherits; nothing here imports Ray.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from bot.engine.cluster.fingerprint import ROOT, report
from bot.engine.frames import Frame
from bot.engine.parent.environment import child_environment
from bot.engine.parent.pipe import PipeLink, own_command
from bot.engine.wire import GENERATE, TYPED, WRITE
from bot.errors import EngineError, EngineErrorKind
from bot.words import mark
from storage.plain_files import read_plain

BEAT_S: Final = 2.0
Item = tuple[dict[str, Any], bytes]
"""What is streamed: a frame's header and its tail."""
_SINGLE: Final = ("input_image", "mask")
_LAST: Final = frozenset({"loaded", "load_failed", "finished", "failed", "cancelled", "ended"})
_COMMAND: Final = (sys.executable, "-m", "bot.engine.child")
_PREFIX: Final = "image-bot-"
_PICTURE_BYTES: Final = 2**27
_FULL: Final = mark("The disk of the machine that draws this is full. Its owner has to make room.")


class NodeActor:
    """Starts the child, hands frames to and fro, and ends it. One exchange at a time."""

    def __init__(self) -> None:
        self._link: PipeLink | None = None
        self._lines = _Lines()
        _sweep()
        self._folder = _Folder()

    async def inspect(self, model_path: str, lora_path: str) -> dict[str, Any]:
        """Return what must be the same on every node, and the GPU that Ray gave this actor."""
        found = await asyncio.to_thread(report, model_path, lora_path)
        return {**found, "gpu": os.environ.get("CUDA_VISIBLE_DEVICES")}

    async def open(self) -> int:
        """Start a child, in place of any that is there; return its process id."""
        await self.end(0.0)
        environment = child_environment()
        # Ray's own: one thread, since the actor claims no CPU. Loading is slow with one.
        environment.pop("OMP_NUM_THREADS", None)
        self._link = await PipeLink.start(own_command(_COMMAND), environment)
        return self._link.pid

    async def alive(self) -> bool:
        """Return whether there is a child."""
        return self._link is not None and not self._link.inbox.ended

    async def send(self, message: dict[str, Any]) -> None:
        """Hand the child a message that it does not answer."""
        if self._link is None:
            return
        fields = dict(message)
        kind = fields.pop("type")
        if kind == "init":
            options = fields["options"]
            paths = {name: str(ROOT / options[name]) for name in ("model_path", "lora_path")}
            # The bot's own folders are elsewhere; this node's are closed anyway.
            own = {"work_path": str(self._folder.path), "closed": []}
            fields["options"] = {**options, **paths, **own}
        await self._link.send(kind, **fields)

    async def exchange(
        self, message: dict[str, Any], images: dict[str, bytes]
    ) -> AsyncGenerator[Item, None]:
        """Hand the child a message and stream its answers: messages, log lines, signs of life.

        The first item says that the child has the message. `images` are the files of `inputs_of`,
        as far as they could be read.
        """
        link = self._link
        folder: Path | None = None
        last: Item | None = None
        try:
            if link is None:
                yield _ended(EngineError(EngineErrorKind.DIED, "there is no child"))
                return
            kind, fields = message["type"], dict(message)
            del fields["type"]
            if kind in {GENERATE, WRITE}:
                if link.inbox.take_unread():
                    error = EngineError(EngineErrorKind.GARBLED, "it spoke out of turn while idle")
                    yield _ended(error)
                    return
                folder = await asyncio.to_thread(self._folder.new)
                if kind == GENERATE:
                    fields["output_dir"] = str(folder)
                for name in inputs_of(fields):
                    await asyncio.to_thread(_write, folder / name, images.get(name))
                fields |= _inputs_in(folder, fields)
                link.log.take_up(fields["job"], *(fields.get(name, "") for name in TYPED))
            await link.send(kind, **fields)
            yield {"type": "beat"}, b""
            async for item in self._answers(link, folder):
                if item[0]["type"] in _LAST:
                    last = item
                else:
                    yield item
        finally:
            if folder is not None:
                await asyncio.to_thread(shutil.rmtree, folder, True)
        if last is not None:  # By now nothing of the job is left here.
            yield last

    async def end(self, patience: float) -> None:
        """End the child, at once or within `patience` seconds."""
        link, self._link = self._link, None
        if link is not None:
            await (link.close(patience) if patience else link.kill())

    async def _answers(self, link: PipeLink, folder: Path | None) -> AsyncGenerator[Item, None]:
        while True:
            error: EngineError | None = None
            frame: Frame | None = None
            try:
                frame = await link.inbox.receive(BEAT_S, "relaying")
            except EngineError as raised:
                error = raised
            for line in self._lines.take():
                yield {"type": "log", "text": line}, b""
            if error is not None and error.kind is not EngineErrorKind.SILENT:
                yield _ended(error)
                return
            if frame is None:
                yield {"type": "beat"}, b""
                continue
            tail = frame.tail
            if frame.type == "picture" and folder is not None:
                tail = await asyncio.to_thread(_picture, frame, folder)
            yield _told(frame), tail
            if frame.type in _LAST:
                return


def inputs_of(message: Mapping[str, Any]) -> dict[str, str]:
    """Return the paths of the bot's files that a request names, by the names they travel under."""
    single = {name: message[name] for name in _SINGLE if message.get(name) is not None}
    return single | dict(zip(_references(message), message.get("references", ()), strict=True))


def _inputs_in(folder: Path, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's fields of `inputs_of` with the files' places in `folder`."""
    single = {name: str(folder / name) for name in _SINGLE if message.get(name) is not None}
    return single | {"references": [str(folder / name) for name in _references(message)]}


def _references(message: Mapping[str, Any]) -> list[str]:
    return [f"reference-{number}" for number, _ in enumerate(message.get("references", ()))]


def _told(frame: Frame) -> dict[str, Any]:
    """Return a message for the bot, which must not take this node's full disk for its own."""
    header = dict(frame.header)
    if header.get("type") == "failed" and header.get("kind") == EngineErrorKind.DISK_REFUSED:
        header |= {"kind": EngineErrorKind.REFUSED.value, "sentence": _FULL, "values": {}}
    return header


def _ended(error: EngineError) -> Item:
    return {"type": "ended", "kind": error.kind.value, "detail": error.detail}, b""


def _picture(frame: Frame, folder: Path) -> bytes:
    """Return the bytes of a picture that the child says it has written; empty if it has not."""
    try:
        path = folder / f"{int(frame.header['index'])}.png"
        if frame.header.get("path") != str(path):
            return b""
        data = read_plain(folder.parent, Path(folder.name, path.name), _PICTURE_BYTES)
        path.unlink()
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return b""
    return data


def _write(path: Path, data: bytes | None) -> None:
    if data is not None:  # Otherwise the child finds no file, and says so as it does anywhere.
        path.write_bytes(data)


class _Lines(logging.Handler):
    """Keeps the child's lines for the bot's log and away from Ray's files on the node."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[str] = deque(maxlen=500)
        logger = logging.getLogger("bot")
        logger.handlers = [self]
        logger.setLevel(logging.INFO)
        logger.propagate = False

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage()[:2000])

    def take(self) -> list[str]:
        """Return the lines since the last call."""
        taken: list[str] = []
        while self._kept:
            taken.append(self._kept.popleft())
        return taken


class _Folder:
    """This process's own folder, locked for as long as the process lives."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def new(self) -> Path:
        """Return a new folder inside."""
        return Path(tempfile.mkdtemp(dir=self.path))


def _sweep() -> None:
    """Remove what killed actors left behind, people's pictures among it."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
