"""The driver process's loop: it answers the bot's calls and relays what the engines say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final

import ray

from bot.engine.child.serve import Channel
from bot.engine.cluster.remote import Remote
from bot.engine.cluster.threads import in_thread
from bot.engine.frames import Frame, FrameError, read_frame_blocking
from bot.errors import EngineErrorKind

_LIST_S: Final = 10.0
_LEAVE_S: Final = 4.0
# It holds only pictures and previews, each for a moment.
_STORE_BYTES: Final = 256 * 2**20
_CARD: Final = "accelerator_type:"


def join(address: str | None) -> None:
    """Join the cluster at `address` as a driver, or start one on this machine alone.

    A machine without a GPU counts as one GPU, so that a model that draws on a CPU can be tried.
    """
    if address is not None:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
        return

    _start_local(None)
    if not ray.cluster_resources().get("GPU"):
        ray.shutdown()
        _start_local(1)


def _start_local(gpus: int | None) -> None:
    ray.init(
        address="local",
        num_cpus=1,
        num_gpus=gpus,
        object_store_memory=_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )


def gpu_nodes() -> list[dict[str, Any]]:
    """Return the nodes that live and have GPUs."""
    found: list[dict[str, Any]] = []
    for node in ray.nodes():
        resources = node.get("Resources", {})
        count = int(resources.get("GPU", 0))
        if node["Alive"] and count > 0:
            card = next((name for name in resources if name.startswith(_CARD)), None)
            found.append(
                {
                    "id": node["NodeID"],
                    "host": node["NodeManagerHostname"],
                    "gpus": count,
                    "card": card and card.removeprefix(_CARD),
                }
            )
    return found


class Driver:
    """Answers the bot's calls; a call that hangs does not hold up others."""

    def __init__(self, channel: Channel, silent_s: float) -> None:
        self._channel = channel
        self._silent_s = silent_s
        self._remotes: dict[int, Remote] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, frame: Frame) -> None:
        """Take a message from the bot."""
        header = frame.header
        if frame.type == "to":
            remote = self._remotes.get(header["engine"])
            if remote is not None:
                remote.post(header["link"], header["message"])
            return
        self._start(self._answer(header))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, header: Any) -> None:
        reply: dict[str, Any] = {}
        try:
            reply["value"] = await self._call(header)
        except TimeoutError:
            taken = "; another program may hold its GPU" if header["do"] == "claim" else ""
            reply["error"] = f"no answer in time{taken}"
        except Exception as error:  # noqa: BLE001 - the bot must hear of it, whatever it is
            line = (str(error).strip().splitlines() or [""])[0]
            reply["error"] = f"{type(error).__name__}: {line[:300]}"
            reply["missing"] = "No module named 'bot" in str(error)
        self._say("reply", call=header["call"], **reply)

    async def _call(self, header: Any) -> Any:
        number = header.get("engine")
        match header["do"]:
            case "nodes":
                for remote in self._remotes.values():
                    self._start(remote.check())
                return await in_thread(_LIST_S, gpu_nodes)
            case "claim":
                remote = self._remotes[number] = Remote(
                    number, header["node"], self._say, silent_s=self._silent_s
                )
                return await remote.claim(header["model_path"], header["lora_path"])
            case "open":
                return await self._remotes[number].open(header["link"])
            case "end":
                return await self._remotes[number].end(header["patience"])
            case "release":
                remote = self._remotes.pop(number, None)
                return remote and await remote.release()
            case other:
                raise ValueError(f"unknown call {other!r}")

    def _say(self, kind: str, /, tail: bytes = b"", **fields: Any) -> None:
        try:
            self._channel.send(kind, tail, **fields)
        except FrameError as error:
            if kind != "from":
                raise
            self._channel.send(
                "ended",
                engine=fields["engine"],
                link=fields["link"],
                kind=EngineErrorKind.GARBLED.value,
                detail=str(error),
            )


def serve(frames_in: int, frames_out: int) -> None:
    """Join, and serve the bot on two descriptors until it closes them."""
    stream = os.fdopen(frames_in, "rb")
    first = read_frame_blocking(stream)
    if first is None:
        return
    channel = Channel(frames_out)
    try:
        # On the main thread: the kernel ends what it starts when the thread that started it ends.
        join(first.header["address"])
    except Exception as error:  # noqa: BLE001 - the bot must hear of it, whatever it is
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        channel.send("refused", detail=f"{type(error).__name__}: {line[:300]}")
        return
    channel.send("joined")
    asyncio.run(_serve(stream, channel, float(first.header["silent_s"])))
    _leave()


async def _serve(stream: Any, channel: Channel, silent_s: float) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    driver = Driver(channel, silent_s)

    def listen() -> None:
        try:
            while (frame := read_frame_blocking(stream)) is not None:
                loop.call_soon_threadsafe(driver.take, frame)
        except (FrameError, OSError):
            pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(over.set)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    await over.wait()


def _leave() -> None:
    """Leave the cluster, which ends the actors; one that hangs notices without being told."""
    leaving = threading.Thread(target=ray.shutdown, name="leave", daemon=True)
    leaving.start()
    leaving.join(_LEAVE_S)
    os._exit(0)
