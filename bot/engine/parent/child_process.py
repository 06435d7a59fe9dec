"""The operating system's child process: started in its own process group, killed with all of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from typing import Self

from typing_extensions import override

from bot.engine.lifeline import JobObject


class _Protocol(SubprocessStreamProtocol):
    """Tells of the process's exit itself; asyncio's `wait` waits for the ends of its pipes too.

    Those never come while something that the process started holds them open.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(2**16, loop)
        self.exited = asyncio.Event()

    @override
    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class ChildProcess:
    """A started process with pipes to its three streams; `exited` is set when it has ended."""

    def __init__(self, process: Process, exited: asyncio.Event, job_object: JobObject) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.stdin = process.stdin
        self.stdout = process.stdout
        self.stderr = process.stderr
        self.exited = exited
        self._process = process
        self._job_object = job_object

    @classmethod
    async def start(cls, command: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Start `command` (spawned, never forked from this process's state).

        Raises `OSError` where it cannot be started.
        """
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(loop),
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=dict(environment),
            start_new_session=True,  # Its own process group, all of which `kill` ends.
        )
        process = Process(transport, protocol, loop)
        job_object = JobObject()
        with contextlib.suppress(OSError):
            job_object.add(process.pid)
        return cls(process, protocol.exited, job_object)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def kill(self) -> None:
        """Send SIGKILL to the process and to what it started, unless it has been reaped."""
        # Once the process is reaped, its number may be another's.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if sys.platform == "win32":
                    self._process.kill()
                else:
                    os.killpg(self._process.pid, signal.SIGKILL)

    def obituary(self) -> str:
        """Return in a few words how the process ended."""
        code = self._process.returncode
        if code is None:
            return "the child closed its pipe"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"the child was ended by {signal.Signals(-code).name}"
        return f"the child exited with status {code}"

    def close_pipes(self) -> None:
        """Close what is still open of the pipes to a process that has ended."""
        # asyncio offers no public way to do so.
        self._process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001
