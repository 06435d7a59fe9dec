"""The weights cache: published bf16 files are packed once, and later what came of them is read.

A block is handed out only after its checksum was compared; threads read ahead. What is damaged is
made anew in the same pass, a conversion that was cut off goes on, and where none can be written,
loading does without. A whole cache needs none of the files that it was made of.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from bot.engine.files.cache_index import CacheIndex, stem_of
from bot.engine.files.find import unreadable
from bot.engine.files.lock import folder_lock
from bot.engine.files.stages import CONVERTING, LOADING
from bot.engine.stream.cachefile import CacheDamaged, WeightsCache, parts
from bot.engine.stream.items import Item, PackedForms, Use
from bot.engine.stream.layout import Packed
from bot.engine.stream.old_cache import adopt
from bot.engine.stream.pinned import UsedMemory
from bot.engine.stream.published import Sources, TensorPlace, damaged, load_error
from bot.words import mark

log = logging.getLogger(__name__)

Progress = Callable[[str, float | None], None]
_Reading = Future[Packed]
_READERS: Final = 4
# What is left free on the disk, for the database and the pictures.
_SPARE_BYTES: Final = 2**30


@dataclass
class LoadStats:
    """What a load did. `seconds` is the loader's own share, without the consumer's."""

    source: str = ""
    """"cache", or "files" where anything that was handed out had to be packed."""
    seconds: float = 0.0
    waited_s: float = 0.0
    """Of `seconds`, what was spent waiting for the cache to be read and compared."""
    written_s: float = 0.0
    """Of `seconds`, what was spent writing the cache."""
    bytes: int = 0
    items: int = 0
    packed: int = 0
    """Of `items`, those that were made of the published files."""
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
    memory: UsedMemory = field(default_factory=UsedMemory)
    """What takes later items: the `flat` of one that is of no more use may be put there."""

    def __post_init__(self) -> None:
        forms = PackedForms(self.sources)
        self._forms = {item.key: forms.form(item) for item in self.items}
        self._sizes = {
            item.key: sum(tensor.nbytes for tensor in parts(forms.shapes(item)).values())
            for item in self.items
        }
        self._cache: WeightsCache | None = None
        self._writes = False
        self._needed = False

    @property
    def cached(self) -> bool:
        """Whether a cache is there that needs no more work."""
        try:
            cache = _opened(self.folder, self.part, self.sources)
        except OSError:
            return False
        return cache is not None and cache.index.complete and not self._missing(cache)

    @property
    def size(self) -> int:
        """Bytes of all items that a load hands out."""
        return sum(self._sizes[item.key] for item in self.items if item.use is Use.LOADED)

    def load(self, device: torch.device, progress: Progress) -> Iterator[tuple[str, Packed]]:
        """Yield every item that is to be loaded once, in order, with its key.

        What is yielded is the reader's own. `progress` is told a stage and the share done, which
        only grows within a stage.
        """
        turn: AbstractContextManager[None] = nullcontext()
        if self.folder is not None and not self.cached:
            turn = folder_lock(self.folder, stem_of(self.part), progress)
        with turn:
            self.stats = LoadStats(source="files" if self.folder is None else "cache")
            cache = self._cache = self._readable()
            if cache is not None and not cache.index.items:
                adopt(cache, self.sources, self.items)
            self._needed = cache is not None and bool(cache.index.taken)
            self._writes = cache is not None and self._may_write(cache)
            try:
                yield from self._load(device, progress)
            finally:
                self._save()

    def place(self, key: str, name: str) -> TensorPlace:
        """Return where the tensor `name` of a loaded item lies: in the cache, else in its file."""
        if self._cache is not None and self._cache.has(key, self._forms[key]):
            return self._cache.place(key, name)
        item = next(item for item in self.items if item.key == key)
        return self.sources.place(item.tensors[name])

    def _readable(self) -> WeightsCache | None:
        """Return the cache; None where the disk fails and all that it was made of is there."""
        try:
            return _opened(self.folder, self.part, self.sources)
        except OSError as error:
            assert self.folder is not None
            names = (name for item in self.items for name in item.tensors.values())
            if not all(map(self.sources.readable, names)):
                raise unreadable(CacheIndex(self.folder, stem_of(self.part)).path, error) from error
            self.stats.source = "files"
            _do_without(
                self.stats,
                f"The weights cache of the {self.part} in {self.folder} could not be read "
                f"({error.strerror or error}); without it every start takes longer.",
            )
            return None

    def _missing(self, cache: WeightsCache) -> list[Item]:
        return [item for item in self.items if not cache.has(item.key, self._forms[item.key])]

    def _load(self, device: torch.device, progress: Progress) -> Iterator[tuple[str, Packed]]:
        stats = self.stats
        started = time.perf_counter()
        pool = ThreadPoolExecutor(_READERS, "cache-reader")
        try:
            for item, reading in self._read_ahead(pool):
                packed, stages = self._read(item, reading), LOADING
                if packed is None:
                    if item.use is not Use.LOADED and not self._writes:
                        continue
                    packed, stages = self._packed(item, device), CONVERTING
                if item.use is not Use.LOADED:
                    continue
                stats.items += 1
                stats.bytes += self._sizes[item.key]
                progress(stages[self.part], stats.bytes / max(1, self.size))
                stats.seconds += time.perf_counter() - started
                yield item.key, packed
                # No second block while the next one is made.
                del packed
                started = time.perf_counter()
            if self._writes and self._cache is not None and not self._cache.index.complete:
                progress(mark("writing the weights cache"), None)
                self._save(complete=True)
            stats.seconds += time.perf_counter() - started
            if self._writes and stats.packed:
                log.info(
                    "The %s was converted in %.0f s, once for this IMAGE_PRECISION; later starts "
                    "read it from %s.",
                    self.part,
                    stats.seconds,
                    self.folder,
                )
        finally:
            pool.shutdown(cancel_futures=True)
            self.memory.clear()

    def _read_ahead(self, pool: ThreadPoolExecutor) -> Iterator[tuple[Item, _Reading | None]]:
        """Yield the items with what they are read by; None: they are to be packed."""
        cache = self._cache
        there = {item.key for item in self.items} if cache is not None else set[str]()
        if cache is not None:
            there -= {item.key for item in self._missing(cache)}
        coming = (i for i in self.items if i.use is not Use.KEPT or i.key not in there)
        ahead: deque[tuple[Item, _Reading | None]] = deque()
        while True:
            for item in islice(coming, _READERS + 1 - len(ahead)):
                reading: _Reading | None = None
                if cache is not None and item.key in there:
                    reading = pool.submit(_stored, cache, item, self.memory, verify=self.verify)
                ahead.append((item, reading))
            if not ahead:
                return
            yield ahead.popleft()

    def _read(self, item: Item, reading: _Reading | None) -> Packed | None:
        """Return what was read ahead; None where there is nothing, or nothing of use."""
        if reading is None:
            return None
        started = time.perf_counter()
        try:
            return reading.result()
        except CacheDamaged as error:
            assert self._cache is not None
            gone = not all(self.sources.readable(name) for name in item.tensors.values())
            if gone and isinstance(error.__cause__, OSError):
                # The disk may be well again at the next try, and nothing here can be made anew.
                path = self._cache.index.folder / self._cache.index.items[item.key].file
                raise damaged(path, error) from error
            if self._cache.index.items.pop(item.key, None) is not None:
                path = self._cache.index.path
                log.warning("%s is damaged and made anew: %s, %s.", path, item.key, error)
            self._cache.index.complete = False
            return None
        finally:
            self.stats.waited_s += time.perf_counter() - started

    def _packed(self, item: Item, device: torch.device) -> Packed:
        """Make an item of the published files, and write it where that is possible."""
        state = {name: self._published(full) for name, full in item.tensors.items()}
        packed = item.packer.pack(state, device)
        self.stats.packed += 1
        if item.use is Use.LOADED:
            self.stats.source = "files"
        if self._writes and self._cache is not None:
            started = time.perf_counter()
            try:
                self._cache.write(item.key, self._forms[item.key], packed)
            except OSError as error:
                self._fail(self._cache, error)
            self.stats.written_s += time.perf_counter() - started
        return packed

    def _published(self, name: str) -> Tensor:
        cache = self._cache
        if cache is not None and not self.sources.readable(name):
            # Whoever looks for the model's files the next time finds that they are needed.
            with suppress(OSError):
                cache.clear()
            raise load_error(
                mark(
                    "The weights cache is damaged or of another version, and the model's files "
                    "that it was made of are gone: they are downloaded again."
                ),
                f"{cache.index.path}: lacks what was made of {name}",
            )
        return self.sources.tensor(name)

    def _may_write(self, cache: WeightsCache) -> bool:
        """Make ready to write what is missing; tell whether there is room for it."""
        missing = self._missing(cache)
        try:
            if missing and len(missing) == len(self.items):
                cache.clear()  # of other files or layouts
            elif missing:
                cache.index.complete = False
            wanted = sum(self._sizes[item.key] for item in missing)
            if missing:
                free = shutil.disk_usage(cache.index.folder).free
                if free < wanted + _SPARE_BYTES:
                    _do_without(
                        self.stats,
                        f"The weights cache of the {self.part} needs {wanted / 1e9:.1f} GB on the "
                        f"disk of {cache.index.folder}, where {free / 1e9:.1f} GB are free; "
                        "without it every start takes longer.",
                    )
                    return False
        except OSError as error:
            self._fail(cache, error)
            return False
        if missing and cache.index.items:
            there = len(self.items) - len(missing)
            log.info(
                "The weights cache of the %s has %d of %d parts: the others are made now.",
                self.part,
                there,
                len(self.items),
            )
        cache.made_of(self.sources.published, taken=False)
        return True

    def _save(self, *, complete: bool = False) -> None:
        """Have what was written count."""
        cache = self._cache
        if cache is None or not self._writes or cache.index.complete:
            return
        started = time.perf_counter()
        try:
            if complete:
                cache.finish(self.sources.published)
            else:
                cache.commit()
        except OSError as error:
            self._fail(cache, error)
        cache.close()
        self.stats.written_s += time.perf_counter() - started

    def _fail(self, cache: WeightsCache, error: OSError) -> None:
        self._writes = False
        cache.give_up()
        if not self._needed:  # All that it is made of is there.
            with suppress(OSError):
                cache.clear()
            cache.index = CacheIndex(cache.index.folder, cache.index.stem)
        _do_without(
            self.stats,
            f"The weights cache of the {self.part} could not be written to {cache.index.folder} "
            f"({error.strerror or error}); without it every start takes longer.",
        )


def _opened(folder: Path | None, part: str, sources: Sources) -> WeightsCache | None:
    """Return the cache in `folder`; of what was made of other files nothing counts.

    Raises OSError where it cannot be read.
    """
    if folder is None:
        return None
    cache = WeightsCache(folder, part)
    if not cache.index.fits(sources.published):
        cache.index = CacheIndex(folder, cache.index.stem)
    return cache


def _stored(cache: WeightsCache, item: Item, memory: UsedMemory, *, verify: bool) -> Packed:
    """Read an item, or only compare its checksum; raise `CacheDamaged`."""
    if item.use is Use.LOADED:
        return cache.read(item.key, verify=verify, memory=memory.take)
    if verify:
        cache.check(item.key)
    return Packed(torch.empty(0), {})


def _do_without(stats: LoadStats, sentence: str) -> None:
    stats.notice = sentence
    log.warning("%s", sentence)


def _ignore(stage: str, fraction: float | None) -> None:
    del stage, fraction


def measure(checkpoint: Checkpoint, device: torch.device) -> LoadStats:
    """Read every item and copy it once, as loading does; return seconds and bytes."""
    for _, packed in checkpoint.load(device, _ignore):
        for tensor in parts(packed).values():
            tensor.to(device, copy=True)
    return checkpoint.stats
