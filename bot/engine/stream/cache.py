"""The weights cache: published bf16 files are packed once, and later a cache file is mapped.

The cache is one safetensors file per network, named by a hash of the published files' identity and
of the layout. A block of it is handed out only after its checksum was compared; threads do that
ahead of the reader, which also brings the next blocks from the disk. A cache that is damaged is
made anew in the same pass; where none can be written, loading does without.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import torch
from torch import Tensor

from bot.engine.files.lock import folder_lock
from bot.engine.files.stages import CONVERTING, LOADING
from bot.engine.stream.cachefile import CacheDamaged, CacheReader, CacheWriter, FilePlan, parts
from bot.engine.stream.layout import Packed
from bot.engine.stream.published import Sources
from bot.words import mark

log = logging.getLogger(__name__)

Progress = Callable[[str, float | None], None]
_FORMAT: Final = 1
_CHECKERS: Final = 4
# What is left free on the disk, for the database and the pictures.
_SPARE_BYTES: Final = 2**30


class Packer(Protocol):
    """Turns tensors into a `Packed`; its `repr` contains all that the result depends on."""

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """See `Layout.pack`."""
        ...


@dataclass(frozen=True)
class Plain:
    """A `Packer` that keeps every tensor as it is, in `dtype`."""

    dtype: torch.dtype

    def pack(self, state: Mapping[str, Tensor], device: torch.device) -> Packed:
        """Return them all as small tensors."""
        small = {name: tensor.to(device, self.dtype) for name, tensor in state.items()}
        return Packed(torch.empty(0, dtype=torch.uint8, device=device), small)


@dataclass(frozen=True)
class Item:
    """What is handed out at once. `tensors` maps the packer's names to those in the files."""

    key: str
    tensors: Mapping[str, str]
    packer: Packer


@dataclass
class LoadStats:
    """What a load did. `seconds` is the loader's own share, without the consumer's."""

    source: str = ""
    seconds: float = 0.0
    waited_s: float = 0.0
    """Of `seconds`, what was spent waiting for checksums."""
    written_s: float = 0.0
    """Of `seconds`, what was spent writing the cache."""
    bytes: int = 0
    items: int = 0
    notice: str | None = None
    """Why there is no cache, in one sentence."""


@dataclass
class Checkpoint:
    """The items of one network, called `part` (a key of `bot.engine.files.stages.LOADING`).

    Without `folder` there is no cache. `verify=False` leaves the checksums out.
    """

    part: str
    sources: Sources
    items: Sequence[Item]
    folder: Path | None = None
    verify: bool = True
    stats: LoadStats = field(default_factory=LoadStats)

    def __post_init__(self) -> None:
        identity = hashlib.sha256(f"{_FORMAT} {self.sources.identity}".encode())
        shapes: dict[tuple[object, ...], Packed] = {}
        planned: dict[str, Packed] = {}
        for item in self.items:
            specs = {name: self.sources.spec(full) for name, full in item.tensors.items()}
            form = (repr(item.packer), *specs.items())
            identity.update(f"{item.key} {form}\n".encode())
            if form not in shapes:
                meta = torch.device("meta")
                state = {n: torch.empty(s, dtype=d, device=meta) for n, (d, s) in specs.items()}
                shapes[form] = item.packer.pack(state, meta)
            planned[item.key] = shapes[form]
        self._plan = FilePlan(planned, identity.hexdigest())

    @property
    def path(self) -> Path | None:
        """Where the cache is or would be."""
        if self.folder is None:
            return None
        return self.folder / f"{self._stem}-{self._plan.identity[:16]}.safetensors"

    @property
    def cached(self) -> bool:
        """Whether a cache of the right name is there."""
        return self.path is not None and self.path.is_file()

    @property
    def size(self) -> int:
        """Bytes of all packed items."""
        return sum(self._plan.sizes.values())

    @property
    def _stem(self) -> str:
        return self.part.replace(" ", "-")

    def load(self, device: torch.device, progress: Progress) -> Iterator[tuple[str, Packed]]:
        """Yield every item once, in order, with its key.

        Tensors are valid until the next item is asked for: they may be views of the mapped file.
        `progress` is told a stage and the share done, which only grows within a stage.
        """
        if self.folder is None or self.cached:
            yield from self._load(device, progress)
            return
        with folder_lock(self.folder, self._stem, progress):
            yield from self._load(device, progress)

    def _load(self, device: torch.device, progress: Progress) -> Iterator[tuple[str, Packed]]:
        self.stats = LoadStats()
        given: set[str] = set()
        if self.path is not None and self.path.is_file():
            try:
                for key, packed in self._stored(self.path, progress):
                    given.add(key)
                    yield key, packed
            except CacheDamaged as error:
                log.warning("%s is damaged and made anew: %s.", self.path, error)
            else:
                return
        yield from self._packed(device, progress, given)

    def _stored(self, path: Path, progress: Progress) -> Iterator[tuple[str, Packed]]:
        stats, stage = self.stats, LOADING[self.part]
        stats.source = "cache"
        started = time.perf_counter()
        reader = CacheReader(path, self._plan)
        pool = ThreadPoolExecutor(_CHECKERS, "cache-check")
        ahead: deque[tuple[str, Packed, Future[None] | None]] = deque()
        try:
            coming = iter(self._plan.sizes)
            while True:
                for key in coming:
                    packed = reader.item(key)
                    check = pool.submit(reader.check, key, packed) if self.verify else None
                    ahead.append((key, packed, check))
                    if len(ahead) > _CHECKERS:
                        break
                if not ahead:
                    break
                key, packed, check = ahead.popleft()
                if check is not None:
                    waiting = time.perf_counter()
                    check.result()
                    stats.waited_s += time.perf_counter() - waiting
                # Small tensors are kept as they come; they shouldn't hold the mapping.
                packed = Packed(packed.flat, {n: t.clone() for n, t in packed.small.items()})
                self._count(key)
                progress(stage, stats.bytes / max(1, self.size))
                stats.seconds += time.perf_counter() - started
                yield key, packed
                started = time.perf_counter()
        finally:
            pool.shutdown(cancel_futures=True)

    def _packed(
        self, device: torch.device, progress: Progress, given: set[str]
    ) -> Iterator[tuple[str, Packed]]:
        stats, stage = self.stats, CONVERTING[self.part]
        stats.source, stats.bytes, stats.items = "files", 0, 0
        started = time.perf_counter()
        writer = self._writer()
        try:
            for item in self.items:
                state = {name: self.sources.tensor(full) for name, full in item.tensors.items()}
                packed = item.packer.pack(state, device)
                writer = self._write(writer, item.key, packed)
                self._count(item.key)
                progress(stage, stats.bytes / max(1, self.size))
                stats.seconds += time.perf_counter() - started
                if item.key not in given:
                    yield item.key, packed
                # No second block while the next one is made.
                del packed, state
                started = time.perf_counter()
            if writer is not None:
                progress(mark("writing the FP8 cache"), None)
            writer = self._write(writer, None, None)
            stats.seconds += time.perf_counter() - started
        finally:
            if writer is not None:
                writer.abort()

    def _count(self, key: str) -> None:
        self.stats.items += 1
        self.stats.bytes += self._plan.sizes[key]

    def _writer(self) -> CacheWriter | None:
        if self.folder is None or self.path is None:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # Left over from interrupted writes, and from other files or layouts.
            for stale in self.folder.glob(f"{self._stem}-*.safetensors*"):
                stale.unlink(missing_ok=True)
            free, wanted = shutil.disk_usage(self.folder).free, self._plan.size
            if free < wanted + _SPARE_BYTES:
                self._do_without(
                    f"The FP8 cache of the {self.part} needs {wanted / 1e9:.1f} GB on the disk of "
                    f"{self.folder}, where {free / 1e9:.1f} GB are free; without it every start "
                    "takes longer."
                )
                return None
            temporary = self.path.with_name(f"{self.path.name}.partial")
            return CacheWriter(self.path, temporary, self._plan)
        except OSError as error:
            self._fail(error)
            return None

    def _write(
        self, writer: CacheWriter | None, key: str | None, packed: Packed | None
    ) -> CacheWriter | None:
        """Write an item, or commit without one; return None once there is nothing to write to."""
        if writer is None:
            return None
        started = time.perf_counter()
        try:
            if key is not None and packed is not None:
                writer.write(key, packed)
                return writer
            writer.commit()
        except OSError as error:
            self._fail(error)
            writer.abort()
        finally:
            self.stats.written_s += time.perf_counter() - started
        return None

    def _fail(self, error: OSError) -> None:
        self._do_without(
            f"The FP8 cache of the {self.part} could not be written to {self.folder} "
            f"({error.strerror or error}); without it every start takes longer."
        )

    def _do_without(self, sentence: str) -> None:
        self.stats.notice = sentence
        log.warning("%s", sentence)


def _ignore(stage: str, fraction: float | None) -> None:
    del stage, fraction


def measure(checkpoint: Checkpoint, device: torch.device) -> LoadStats:
    """Read every item and copy it once, as loading does; return seconds and bytes."""
    for _, packed in checkpoint.load(device, _ignore):
        for tensor in parts(packed).values():
            tensor.to(device, copy=True)
    return checkpoint.stats
