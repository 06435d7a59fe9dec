"""Membership in a Ray cluster: on which of its GPUs the bot draws, as they come and go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from bot.engine.cluster.engine import RayEngine
from bot.engine.cluster.fingerprint import differences, report
from bot.engine.cluster.hub import SILENT_S, Hub, require_ray
from bot.engine.options import Backoff, EngineOptions, SilenceLimits
from bot.errors import EngineError, StartupError

log = logging.getLogger(__name__)
_LIST_S: Final = 20.0
_LOST_S: Final = 90.0
"""Seconds without an answer after which the cluster counts as lost; Ray's own limit is 60."""
_FIRST_S, _REFUSED_S = 1.0, 60.0
"""Seconds until a GPU that could not be taken is tried again: at first, and at most."""
_REJOIN_S: Final = 30.0
_UNFIT: Final = re.compile(r"[^a-z0-9.-]+")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")

Joined = Callable[[str, RayEngine, str, str | None], Awaitable[None]]
"""Called with an engine's name, the engine, its node's host name, and its card if Ray knows it."""
Left = Callable[[str], Awaitable[None]]


@dataclass(slots=True)
class _Slot:
    """One GPU of one node, as Ray counts them."""

    name: str
    node: str
    host: str
    card: str | None
    engine: RayEngine | None = None
    claiming: asyncio.Task[None] | None = None
    refused: str = ""
    again_at: float = 0.0
    pause_s: float = _FIRST_S


class RayMembership:
    """Joins a cluster and reports an engine for each of its GPUs.

    `run()` until cancelled, then `close()`. `joined` and `left` are called from `run`; `left` also
    for every engine of a cluster that is lost. A cluster that cannot be reached is tried again
    until it can be; the queue takes requests meanwhile.

    Raises `StartupError` where Ray is not installed or `address` is not an address.
    """

    def __init__(
        self,
        address: str | None,
        *,
        model: str,
        options: EngineOptions,
        joined: Joined,
        left: Left,
        poll_s: float = 5.0,
        silent_s: float = SILENT_S,
        limits: SilenceLimits | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        require_ray(address)
        self._address = address or None
        self._model = model
        self._options = options
        self._limits = limits
        self._backoff = backoff
        self._joined = joined
        self._left = left
        self._poll_s = poll_s
        self._silent_s = silent_s
        self._hub: Hub | None = None
        self._slots: dict[tuple[str, int], _Slot] = {}
        self._known: dict[str, Any] = {}

    @property
    def driver_pid(self) -> int | None:
        """The process id of the driver, while there is one."""
        return None if self._hub is None else self._hub.pid

    async def run(self) -> None:
        """Watch the cluster until cancelled."""
        loop = asyncio.get_running_loop()
        heard, empty = loop.time(), False
        while True:
            if self._hub is None:
                await self._join()
                heard = loop.time()
            hub = self._hub
            assert hub is not None
            try:
                nodes = _read_nodes(await hub.call("nodes", _LIST_S))
            except (EngineError, KeyError, TypeError, ValueError) as error:
                if hub.ended.is_set() or loop.time() - heard > _LOST_S:
                    log.error("the Ray cluster is lost (%s); it is joined again", error)
                    await self._lose()
                    continue
                log.warning("the Ray cluster does not tell its nodes: %s", error)
            else:
                heard = loop.time()
                if not nodes and not empty:
                    log.warning("the Ray cluster has no GPU: nothing is drawn until one joins")
                empty = not nodes
                await self._compare(hub, nodes)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await hub.ended.wait()

    async def close(self) -> None:
        """Leave the cluster; what is drawn there ends. Idempotent."""
        claims = [slot.claiming for slot in self._slots.values() if slot.claiming]
        self._slots.clear()
        for claim in claims:
            claim.cancel()
        await asyncio.gather(*claims, return_exceptions=True)
        hub, self._hub = self._hub, None
        if hub is not None:
            await hub.close()

    async def _join(self) -> None:
        paths = str(self._options.model_path), str(self._options.lora_path)
        self._known = await asyncio.to_thread(report, *paths)
        wait_s = 1.0
        while True:
            try:
                self._hub = await Hub.join(self._address, silent_s=self._silent_s)
            except StartupError as error:
                log.error("%s Next try in %.0f s.", error, wait_s)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _REJOIN_S)
            else:
                log.info("the Ray cluster is joined")
                return

    async def _lose(self) -> None:
        hub, self._hub = self._hub, None
        for key in list(self._slots):
            await self._drop(key)
        if hub is not None:
            await hub.close()

    async def _compare(
        self, hub: Hub, nodes: dict[tuple[str, int], tuple[str, str | None]]
    ) -> None:
        for key in [key for key in self._slots if key not in nodes]:
            await self._drop(key)
        now = asyncio.get_running_loop().time()
        for key, (host, card) in nodes.items():
            slot = self._slots.get(key)
            if slot is None:
                name = _name(host, (slot.name for slot in self._slots.values()))
                slot = self._slots[key] = _Slot(name, key[0], host, card)
            if slot.engine is None and slot.claiming is None and now >= slot.again_at:
                slot.claiming = asyncio.create_task(self._claim(hub, slot))

    async def _claim(self, hub: Hub, slot: _Slot) -> None:
        """Take a GPU into use, unless its node differs from the others."""
        engine = RayEngine(
            self._model,
            options=self._options,
            hub=hub,
            node=slot.node,
            limits=self._limits,
            backoff=self._backoff,
        )
        try:
            try:
                there = await engine.claim()
                self._name_by_card(slot, there.get("gpu"))
                sentence = differences(self._known, there, slot.name)
            except EngineError as error:
                there, sentence = {}, f"{error.detail.rstrip('.')}."
            if sentence is None:
                self._note(slot, there)
                slot.engine = engine
                await self._joined(slot.name, engine, slot.host, slot.card)
                return
            if sentence != slot.refused:
                log.error("%s is not used: %s", slot.name, sentence)
            slot.refused = sentence
        except Exception:
            log.exception("%s is not used", slot.name)
            slot.engine = None
        finally:
            slot.claiming = None
            slot.again_at = asyncio.get_running_loop().time() + slot.pause_s
            slot.pause_s = min(2 * slot.pause_s, _REFUSED_S)
            if slot.engine is None:
                await engine.close()

    def _name_by_card(self, slot: _Slot, gpu: object) -> None:
        """Name a GPU after its number on its machine: Ray hands GPUs out in any order.

        The name stays as it is if the number is not known, or another node on that machine uses
        it.
        """
        if not isinstance(gpu, str) or not _NUMBER.fullmatch(gpu):
            return
        wanted = f"{_stem(slot.host)}-{gpu}"
        holder = next((one for one in self._slots.values() if one.name == wanted), None)
        if holder is None:
            slot.name = wanted
        elif holder.engine is None:
            holder.name, slot.name = slot.name, wanted

    def _note(self, slot: _Slot, there: dict[str, Any]) -> None:
        """Hold later nodes to the files of this one too; warn of LoRAs that it lacks."""
        lacking = sorted(self._known["loras"].keys() - there["loras"].keys())
        if lacking:
            names = ", ".join(lacking)[:300]
            log.warning("%s lacks LoRA files, and refuses jobs with them: %s", slot.name, names)
        for kind in ("model", "loras"):
            self._known[kind] = {**there[kind], **self._known[kind]}

    async def _drop(self, key: tuple[str, int]) -> None:
        slot = self._slots.pop(key)
        if slot.claiming is not None:
            slot.claiming.cancel()
            await asyncio.wait({slot.claiming})
        if slot.engine is None:
            return
        log.warning("%s has left", slot.name)
        try:
            await self._left(slot.name)
        except Exception:
            log.exception("%s could not be taken out", slot.name)
        await slot.engine.close()


def _read_nodes(value: Any) -> dict[tuple[str, int], tuple[str, str | None]]:
    """Return the GPUs, each by its node's id and its number there, in a steady order."""
    found: dict[tuple[str, int], tuple[str, str | None]] = {}
    for node in sorted(value, key=lambda node: str(node["id"])):
        card = node["card"]
        for index in range(min(int(node["gpus"]), 64)):
            host = str(node["host"])[:60]
            found[str(node["id"]), index] = host, None if card is None else str(card)[:60]
    return found


def _name(host: str, taken: Iterable[str]) -> str:
    """Return the first free name of the kind `host-0`."""
    stem = _stem(host)
    used = set(taken)
    return next(name for i in range(len(used) + 1) if (name := f"{stem}-{i}") not in used)


def _stem(host: str) -> str:
    return _UNFIT.sub("-", host.lower()).strip("-") or "node"
