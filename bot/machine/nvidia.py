"""NVIDIA's driver, asked through nvidia-smi: the cards, their memory, and what uses them.

Nothing else runs nvidia-smi, and nothing here imports torch.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
_PROGRAM: Final = "nvidia-smi"
_FORMAT: Final = "--format=csv,noheader,nounits"
_MEMORY: Final = "--query-gpu=memory.used,memory.total"
_PATIENCE_S: Final = 10.0
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card, as far as the driver was asked about it; memory in bytes."""

    id: str = ""
    """What CUDA_VISIBLE_DEVICES calls it."""
    name: str | None = None
    driver: str = ""
    """The driver's version."""
    total: int = 0
    free: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The lines that nvidia-smi printed, and why they cannot be relied on, where that is so."""

    lines: tuple[str, ...]
    why_not: str | None = None


def ask(query: str, patience_s: float) -> Answer:
    """Run nvidia-smi with one query option; blocks up to `patience_s` seconds."""
    program = shutil.which(_PROGRAM)
    if program is None:
        return _absent()
    try:
        done = subprocess.run(  # noqa: S603 - NVIDIA's own program
            [program, query, _FORMAT],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _silent(patience_s)
    except OSError as error:
        return _not_run(error)
    return _answer(done.returncode, done.stdout, done.stderr)


async def ask_async(query: str, patience_s: float) -> Answer:
    """Do as `ask`, without a thread: one that waits for a hung driver would hold up the bot's end.

    What the program writes to stderr is left out.
    """
    program = shutil.which(_PROGRAM)
    if program is None:
        return _absent()
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        child = await asyncio.create_subprocess_exec(
            program, query, _FORMAT, stdout=pipe, stderr=nothing
        )
    except OSError as error:
        return _not_run(error)
    try:
        async with asyncio.timeout(patience_s):
            output, _ = await child.communicate()
    except TimeoutError:
        return _silent(patience_s)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _answer(child.returncode, output.decode(errors="replace"), "")


def visible(environment: Mapping[str, str] | None = None) -> list[Gpu]:
    """Return the cards that this process may use, first to last; blocks up to ten seconds.

    Without CUDA_VISIBLE_DEVICES these are all that the driver knows, by their UUIDs: CUDA's own
    numbers put the fastest card first, nvidia-smi's go by the slot. With it they are its entries,
    up to the first that names no card, as CUDA reads it. Each has an id, and a name where known.
    """
    chosen = (os.environ if environment is None else environment).get(VISIBLE)
    known = _named()
    if chosen is None:
        return known
    found: list[Gpu] = []
    for entry in (part.strip() for part in chosen.split(",")):
        if not entry or entry.startswith("-"):
            break
        found.append(Gpu(entry, _name(entry, known)))
    return found


def with_memory(found: Sequence[Gpu]) -> list[Gpu]:
    """Return these cards with their total and free memory, where the driver tells; may block.

    A card that CUDA_VISIBLE_DEVICES names by a number is known where there is one card: CUDA counts
    otherwise than nvidia-smi.
    """
    answer = ask("--query-gpu=uuid,memory.total,memory.free", _PATIENCE_S) if found else _absent()
    known: dict[str, tuple[int, int]] = {}
    for line in answer.lines if answer.why_not is None else ():
        uuid, *sizes = (part.strip() for part in line.split(","))
        with suppress(ValueError):
            total, free = (int(size) * _MIB for size in sizes)
            known[uuid.lower()] = total, free

    def of(card: Gpu) -> Gpu:
        sizes = [known[uuid] for uuid in known if uuid.startswith(card.id.lower())]
        if card.id.isdecimal():
            sizes = list(known.values())
        if len(sizes) != 1:
            return card
        ((total, free),) = sizes
        return replace(card, total=total, free=free)

    return [of(card) for card in found]


def cards(patience_s: float) -> list[Gpu] | str:
    """Return the cards with name, driver, total and free memory, or why the driver shows none."""
    answer = ask("--query-gpu=name,driver_version,memory.total,memory.free", patience_s)
    if answer.why_not is not None:
        return answer.why_not
    found: list[Gpu] = []
    for line in answer.lines:
        parts = [part.strip() for part in line.split(",")]
        try:
            name, driver, total, free = parts
            card = Gpu(name=name, driver=driver, total=int(total) * _MIB, free=int(free) * _MIB)
        except ValueError:
            return f"nvidia-smi answered {line[:80]!r}"
        found.append(card)
    return found or "nvidia-smi knows of no card"


async def memory(patience_s: float) -> tuple[Gpu, ...]:
    """Return the cards with used and total memory; none where the driver does not answer.

    A line that holds anything else is left out.
    """
    found: list[Gpu] = []
    for line in (await ask_async(_MEMORY, patience_s)).lines:
        try:
            used, total = (int(part) * _MIB for part in line.split(","))
        except ValueError:
            continue
        found.append(Gpu(used=used, total=total))
    return tuple(found)


def programs(patience_s: float) -> list[str]:
    """Return a line for each program that uses a card: process id, name, MiB; none if unknown."""
    answer = ask("--query-compute-apps=pid,process_name,used_memory", patience_s)
    if answer.why_not is not None:
        return []
    return [line.strip() for line in answer.lines if line.strip()]


def _named() -> list[Gpu]:
    answer = ask("--query-gpu=uuid,name", _PATIENCE_S)
    found: list[Gpu] = []
    for line in answer.lines if answer.why_not is None else ():
        uuid, comma, name = line.partition(",")
        if comma and uuid.startswith("GPU-"):
            found.append(Gpu(uuid.strip(), name.strip()))
    return found


def _name(entry: str, known: list[Gpu]) -> str | None:
    for card in known:
        # A UUID may be cut short, as long as only one card's begins so.
        if card.id.lower().startswith(entry.lower()):
            return card.name
    names = {card.name for card in known}
    return names.pop() if len(names) == 1 else None


def _absent() -> Answer:
    return Answer((), "nvidia-smi is not there")


def _silent(patience_s: float) -> Answer:
    return Answer((), f"nvidia-smi did not answer within {patience_s:g} s")


def _not_run(error: OSError) -> Answer:
    return Answer((), f"nvidia-smi cannot be run ({error.strerror})")


def _answer(status: int | None, output: str, errors: str) -> Answer:
    lines = tuple(output.splitlines())
    if not status:
        return Answer(lines)
    said = (output + errors).strip().splitlines() or ["no message"]
    return Answer(lines, f"nvidia-smi failed: {said[0][:120]}")
