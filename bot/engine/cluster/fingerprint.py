"""The fingerprint of a node: the bot's code and the model's files, which must be alike on all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import bot
from bot.engine.files.find import CACHE_FOLDERS

ROOT: Final = Path(bot.__file__).resolve().parents[1]
"""The bot's folder on this machine; relative paths in the settings begin there."""
_KINDS: Final = frozenset({".safetensors", ".json", ".txt"})
_OWN: Final = frozenset(CACHE_FOLDERS.values())
_SAMPLE: Final = 2**16
_FILES: Final = 2000


def code() -> str:
    """Return a digest of the bot's Python files."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "bot").rglob("*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def files(folder: str) -> dict[str, str]:
    """Return size and digest of each file in a model's or the LoRAs' folder, by name.

    The digest is of the first and the last 64 KiB: different weights differ there, and 57 GB need
    not be read.
    """
    root = ROOT / folder
    return {path.relative_to(root).as_posix(): _identity(path) for path in _walk(root)}


def report(model_path: str, lora_path: str) -> dict[str, Any]:
    """Return all that `differences` compares."""
    return {
        "version": bot.__version__,
        "code": code(),
        "model": files(model_path),
        "loras": files(lora_path),
    }


def differences(here: Mapping[str, Any], there: Mapping[str, Any], node: str) -> str | None:
    """Return a sentence about what differs between `here` and `there`, or None.

    A file that one of them lacks is not a difference: an engine downloads its model's files.
    """
    if here.get("code") != there.get("code"):
        return (
            f"The bot on {node} is another (version {there.get('version')!s:.20}) than on this "
            f"machine ({here.get('version')}): install the same on both, and restart Ray there."
        )
    for kind, words in (("model", "model file"), ("loras", "LoRA file")):
        ours, theirs = here.get(kind), there.get(kind)
        if not isinstance(ours, Mapping) or not isinstance(theirs, Mapping):
            return f"{node} does not say which files it has."
        for name in sorted(ours.keys() & theirs.keys()):
            if ours[name] != theirs[name]:
                return (
                    f"The {words} {name!s:.200} on {node} differs from the one of other machines."
                )
    return None


def _walk(root: Path) -> Iterator[Path]:
    count = 0
    for folder, names, found in os.walk(root):
        names[:] = sorted(name for name in names if name not in _OWN and not name.startswith("."))
        for name in sorted(found):
            if Path(name).suffix in _KINDS and count < _FILES:
                count += 1
                yield Path(folder, name)


def _identity(path: Path) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            digest = hashlib.sha256(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            digest.update(file.read(_SAMPLE))
    except OSError as error:
        return f"unreadable: {error.strerror}"
    return f"{size} {digest.hexdigest()[:32]}"
