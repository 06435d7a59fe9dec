"""`python -m bot …` at a terminal of its own, as people have it in front of them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.process.kit import PATIENCE_S, ROOT

_COLOURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def bare_environment(**extra: str) -> dict[str, str]:
    """Return an environment that sets nothing of the bot's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "200"} | extra


class Terminal:
    """A process whose input and outputs are one terminal."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self.shown = ""
        self._raw = b""
        self._master = master
        self._more = asyncio.Event()
        self._ended = False
        asyncio.get_running_loop().add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last process has closed it.
            data = b""
        if not data:
            self._ended = True
            asyncio.get_running_loop().remove_reader(self._master)
        self._raw += data
        self.shown = _COLOURS.sub(b"", self._raw).decode(errors="replace").replace("\r\n", "\n")
        self._more.set()

    async def until(self, words: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until it shows these words."""
        async with asyncio.timeout(patience_s):
            while words not in self.shown:
                assert not self._ended, f"it ended without {words!r}:\n{self.shown}"
                self._more.clear()
                await self._more.wait()

    def press(self, keys: bytes) -> None:
        """Press keys; b"\\x03" is Ctrl+C."""
        os.write(self._master, keys)

    async def end(self) -> int:
        """Wait until the process has ended and all is read; return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            while not self._ended:
                self._more.clear()
                await self._more.wait()
        return code

    def close(self) -> None:
        if not self._ended:
            asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)


@asynccontextmanager
async def terminal(
    folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "bot"), **environment: str
) -> AsyncIterator[Terminal]:
    """Run `python -m bot` with these arguments in `folder`, at a terminal of its own."""
    import fcntl  # There is none of these on Windows.
    import pty
    import termios

    master, slave = pty.openpty()

    def take_the_terminal() -> None:
        os.setsid()
        # Whatever started the tests may ignore it (nohup, a shell's &); no terminal does.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, *arguments,
        cwd=folder, env=bare_environment(**environment), stdin=slave, stdout=slave, stderr=slave,
        preexec_fn=take_the_terminal,
    )  # fmt: skip
    os.close(slave)
    shown = Terminal(process, master)
    try:
        yield shown
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        shown.close()
