"""The cache of before, one safetensors file a network: it is used where it lies.

Its name tells which published files and which layout it was made for, its header where each item
is, with checksums as today's. So an index of it is all that is written.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from bot.engine.files.cache_index import StoredItem, StoredTensor
from bot.engine.files.header import read_header
from bot.engine.stream.cachefile import WeightsCache
from bot.engine.stream.items import Item, PackedForms, Use
from bot.engine.stream.published import Sources

log = logging.getLogger(__name__)

_FORMAT: Final = 1
_PAD: Final = ".pad"


def adopt(cache: WeightsCache, sources: Sources, items: Sequence[Item]) -> None:
    """Have `cache`, an empty one, hold what an older version made of the same published files."""
    forms = PackedForms(sources)
    loaded = [item for item in items if item.use is Use.LOADED]
    path = cache.index.folder / f"{cache.index.stem}-{_identity(sources, forms, loaded)[:16]}"
    path = path.with_name(f"{path.name}.safetensors")
    if not path.is_file():
        return
    try:
        header = read_header(path)
        sums: dict[str, str] = json.loads(header.entries["__metadata__"]["crc32"])
        for item in loaded:
            stored = {
                name.removeprefix(f"{item.key}/"): StoredTensor(
                    entry["dtype"],
                    tuple(entry["shape"]),
                    header.begin + entry["data_offsets"][0],
                )
                for name, entry in header.entries.items()
                if name.startswith(f"{item.key}/") and not name.endswith(_PAD)
            }
            end = max(header.entries[f"{item.key}/{name}"]["data_offsets"][1] for name in stored)
            cache.index.items[item.key] = StoredItem(
                forms.form(item), path.name, sums[item.key], header.begin + end, stored
            )
    except (ValueError, KeyError, TypeError) as error:
        log.warning("%s is of an earlier version and damaged, it is made anew: %s.", path, error)
        cache.index.items.clear()
        return
    log.info("%s is of an earlier version, and is used as it is.", path)
    with suppress(OSError):  # in a folder that cannot be written it is looked for at each start
        cache.made_of(sources.published, taken=False)
        if len(loaded) == len(items):
            cache.finish(sources.published)
        else:
            cache.commit()


def _identity(sources: Sources, forms: PackedForms, items: Sequence[Item]) -> str:
    """Return what an older version named its file by."""
    files = hashlib.sha256()
    for name, file in sorted(sources.published.items()):
        files.update(f"{name} {file.size} {file.mtime_ns}\n".encode())
        files.update(bytes.fromhex(file.header_sha256))
    identity = hashlib.sha256(f"{_FORMAT} {files.hexdigest()}".encode())
    for item in items:
        identity.update(f"{item.key} {forms.specs(item)}\n".encode())
    return identity.hexdigest()
