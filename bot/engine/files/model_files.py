"""The files of one model, and which of a network's are there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bot.catalogue.models import Network

_SHARD: Final = re.compile(r"(.+)-\d{5}-of-(\d{5})\.safetensors")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """The complete set of files of one model: each network's, by the network's `part`.

    Those are left out that are gone, and whose weights are in the cache. `folder` is the model's
    own, `words` the one that holds its tokenizer's. `owners` names the model in whose folder a
    network's files lie, and in whose cache its weights do.
    """

    folder: Path
    networks: Mapping[str, tuple[Path, ...]]
    words: Path
    owners: Mapping[str, str]

    @property
    def transformer(self) -> tuple[Path, ...]:
        """The transformer's weights."""
        return self.networks["transformer"]

    @property
    def text_encoder(self) -> tuple[Path, ...]:
        """The text encoder's weights."""
        return self.networks["text encoder"]

    @property
    def vae(self) -> tuple[Path, ...]:
        """The VAE's weights."""
        return self.networks["VAE"]

    @property
    def tokenizer(self) -> Path:
        """The tokenizer's folder."""
        return self.words / "tokenizer"

    @property
    def weights(self) -> tuple[Path, ...]:
        """All networks' weights."""
        return tuple(path for paths in self.networks.values() for path in paths)


def shards(folder: Path, network: Network, taken: frozenset[str]) -> tuple[list[Path], list[Path]]:
    """Return which of one network's files are present and which are missing and not `taken`."""
    stem = network.stem
    if not network.sharded:
        path = folder / f"{stem}.safetensors"
        return ([path], []) if path.is_file() else ([], [path])
    present = sorted(folder.glob(f"{stem}*.safetensors"))
    known = {path.name for path in present} | taken
    if not known:
        return [], [folder / f"{stem}-00001-of-*.safetensors"]
    missing: list[Path] = []
    for name in known:
        if match := _SHARD.fullmatch(name):
            head, count = match[1], match[2]
            names = (f"{head}-{i:05}-of-{count}.safetensors" for i in range(1, int(count) + 1))
            missing = [folder / name for name in names if name not in known]
    return present, missing
