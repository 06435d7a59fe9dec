"""Downloads of a model's files: room on the disk is checked first, hashes after, and all resume.

Hugging Face (`HF_ENDPOINT` names a mirror, `HF_TOKEN` a login) or ModelScope
(`MODELSCOPE_ENDPOINT`). Only this module talks to them, in the engine's child or in
`python -m bot download`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from bot.engine.files.arrivals import (
    RemoteFile,
    Taker,
    Tally,
    is_complete,
    partial_bytes,
    partial_place,
)
from bot.engine.files.fetch import fetch, status_of, why
from bot.engine.files.lock import folder_lock
from bot.engine.files.replacing import replacing
from bot.engine.options import LoadProgress
from bot.errors import EngineError, EngineErrorKind, filled
from bot.words import mark

# The database, pictures and caches share the disk with the files more often than not.
_SPARE_BYTES: Final = 2**30
_POLL_S: Final = 1.0
_PATIENCE_S: Final = 30.0
_HASHES: Final = "SHA256SUMS"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_CLOSED: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
_BROKEN: Final = frozenset({errno.EIO, errno.EMFILE, errno.ENFILE})


def load_error(sentence: str, detail: str | None = None, **values: str) -> EngineError:
    """Return the error of a model that cannot be loaded, for users and for the log."""
    return EngineError(
        EngineErrorKind.LOAD_FAILED,
        detail or filled(sentence, values),
        sentence=sentence,
        values=values,
    )


def download(
    root: Path,
    repository: str,
    source: str,
    progress: LoadProgress,
    *,
    patterns: Sequence[str],
    lacking: str = "",
    setting: str = "IMAGE_MODEL_PATH",
    taken: frozenset[str] = frozenset(),
    taker: Taker | None = None,
) -> None:
    """Download the files of `repository` that match one of `patterns` into `root`.

    `setting` names that folder to users. Files of the right size are kept, partial ones continue
    where they ended; those that are `taken` are not needed. A `taker` is given each as it arrives.
    Raises `EngineError` (`LOAD_FAILED`) with a sentence: no room, no such model, a login required,
    no network (the sentence then names the file `lacking`), a wrong hash.
    """
    with explained(repository, source, lacking, setting), folder_lock(root, "download", progress):
        client = _CLIENTS[source]
        listing = client.listing(repository)
        files = [file for file in listing if _wanted(file.path, patterns)]
        tally = Tally(root, files, taken, taker)
        partial_place(root, "").mkdir(parents=True, exist_ok=True)
        _check_room(root, tally.room() - partial_bytes(root), setting)
        with _watched(tally, progress):
            for file in tally.todo:
                if not is_complete(root, file):
                    with explained(repository, source, file.path, setting):
                        _bring(client, repository, file, root)
                tally.arrived.add(file.path)
                if taker is not None and taker.takes(file.path):
                    taker.take(file.path)
        with suppress(OSError):  # what another version of the repository left unfinished
            partial_place(root, "").rmdir()


def _bring(client: _Client, repository: str, file: RemoteFile, root: Path) -> None:
    """Fetch a file and give it its name once it is complete and its hash compared."""
    digest = _fetch(client, repository, file, partial_place(root, file.path))
    (root / file.path).parent.mkdir(parents=True, exist_ok=True)
    _note_hash(root, file.path, digest)  # First: what is in its place is not looked at again.
    partial_place(root, file.path).replace(root / file.path)


def _fetch(client: _Client, repository: str, file: RemoteFile, partial: Path) -> str:
    """Complete a file, and return its SHA-256; raise `EngineError` where it is another one."""
    # The clients' own downloads throw unfinished files away, and each has 5 GB.
    resumed = partial.exists() and partial.stat().st_size > 0
    fetch(*client.address(repository, file.path), partial, file.size)
    try:
        return _check_hash(partial, file)
    except EngineError:
        if not resumed:
            raise
    # What lay there was not of this file.
    fetch(*client.address(repository, file.path), partial, file.size)
    return _check_hash(partial, file)


class _Client(Protocol):
    name: str

    def listing(self, repository: str) -> list[RemoteFile]: ...

    def address(self, repository: str, path: str) -> tuple[str, dict[str, str]]: ...


class _HuggingFace:
    name = "Hugging Face"

    def listing(self, repository: str) -> list[RemoteFile]:
        from huggingface_hub import HfApi  # noqa: PLC0415 - slow, and only where it is needed

        found = HfApi().model_info(repository, files_metadata=True).siblings or []
        return [
            RemoteFile(one.rfilename, one.size or 0, one.lfs.sha256 if one.lfs else None)
            for one in found
        ]

    def address(self, repository: str, path: str) -> tuple[str, dict[str, str]]:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url  # noqa: PLC0415
        from huggingface_hub.utils import build_hf_headers  # noqa: PLC0415

        url = hf_hub_url(repository, path)
        headers = build_hf_headers()
        location = get_hf_file_metadata(url, headers=headers).location
        if urlsplit(location).netloc != urlsplit(url).netloc:
            # The content network's address is signed, and the login must not reach it.
            headers = {k: v for k, v in headers.items() if k.lower() != "authorization"}
        return location, headers


def modelscope_endpoint() -> str:
    """Return ModelScope's address, or the mirror's that `MODELSCOPE_ENDPOINT` names."""
    return (os.environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn").rstrip("/")


class _ModelScope:
    name = "ModelScope"

    def listing(self, repository: str) -> list[RemoteFile]:
        from huggingface_hub.utils import get_session  # noqa: PLC0415

        answer = get_session().get(
            f"{modelscope_endpoint()}/api/v1/models/{repository}/repo/files",
            params={"Revision": "master", "Recursive": "true"},
            timeout=_PATIENCE_S,
        )
        answer.raise_for_status()
        return [
            RemoteFile(one["Path"], int(one["Size"]), one.get("Sha256") or None)
            for one in answer.json()["Data"]["Files"]
            if one.get("Type") != "tree"
        ]

    def address(self, repository: str, path: str) -> tuple[str, dict[str, str]]:
        return f"{modelscope_endpoint()}/models/{repository}/resolve/master/{path}", {}


_CLIENTS: Final[dict[str, _Client]] = {
    "huggingface": _HuggingFace(),
    "modelscope": _ModelScope(),
}


def _wanted(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(path, pattern) for pattern in patterns)


def _check_room(root: Path, wanted: int, setting: str) -> None:
    free = shutil.disk_usage(root).free
    if wanted > 0 and free < wanted + _SPARE_BYTES:
        raise load_error(
            mark(
                "The model needs {wanted} GB more on the disk of {setting}, where {free} GB are "
                "free."
            ),
            f"disk of {root}",
            setting=setting,
            wanted=f"{wanted / 1e9:.1f}",
            free=f"{free / 1e9:.1f}",
        )


def _check_hash(path: Path, file: RemoteFile) -> str:
    """Return the file's SHA-256; raise `EngineError` where it is not the published one."""
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    right = file.sha256 is None or digest == file.sha256
    if not right or path.stat().st_size != file.size:
        path.unlink()
        raise load_error(
            mark("The file {file} was damaged on its way; it is downloaded again next time."),
            f"{path}: SHA-256 {digest}, not {file.sha256}",
            file=file.path,
        )
    return digest


def _note_hash(root: Path, path: str, digest: str) -> None:
    """Record a downloaded file's SHA-256, for the doctor and for `sha256sum -c`."""
    try:
        noted = {**_hashes(root), path: digest}
    except FileNotFoundError:
        noted = {path: digest}
    lines = (f"{digest}  {path}\n" for path, digest in sorted(noted.items()))
    with replacing(root / _HASHES) as file:
        file.write("".join(lines).encode())


def noted_hashes(root: Path) -> dict[str, str]:
    """Return the SHA-256 of each file that was downloaded to `root`, by its path there."""
    try:
        return _hashes(root)
    except OSError:
        return {}


def _hashes(root: Path) -> dict[str, str]:
    lines = (root / _HASHES).read_text("utf-8", errors="replace").splitlines()
    pairs = (line.split("  ", 1) for line in lines if "  " in line)
    return {path: digest for digest, path in pairs}


@contextmanager
def explained(repository: str, source: str, lacking: str, setting: str) -> Generator[None]:
    """Turn whatever the clients raise (their HTTP library's errors, too) into one sentence."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:
        detail = f"download of {repository} from {source}: {type(error).__name__}"
        values = {"model": repository, "source": _CLIENTS[source].name, "file": lacking}
        if isinstance(error, OSError) and error.errno in _FULL:
            raise load_error(
                mark("The disk of {setting} is full; the download goes on once it is not."),
                detail,
                setting=setting,
            ) from error
        if isinstance(error, OSError) and error.errno in _CLOSED | _BROKEN:
            raise load_error(
                mark("The folder of {setting} cannot be written: {why}."),
                f"{detail} {error.strerror}: {error.filename}",
                setting=setting,
                why=error.strerror or why(error),  # Users read it: no path.
            ) from error
        status = status_of(error)
        values["why"] = why(error)
        if status in {401, 403} and source == "modelscope":
            sentence = mark(
                "{source} wants a login for {model}, and the bot has none for it: see "
                "MODEL_SOURCE for the other hub."
            )
        elif status in {401, 403}:
            sentence = mark(
                "{source} wants a login for {model}: put a token of an account that may read it "
                "into HF_TOKEN."
            )
        elif status == 404:  # noqa: PLR2004
            sentence = mark("{source} knows no model {model}.")
        else:
            sentence = mark(
                "The model file {file} is missing and could not be downloaded from {source} "
                "({why}); what is there already is kept, and the next try goes on from it."
            )
        raise load_error(sentence, detail, **values) from error


@contextmanager
def _watched(tally: Tally, progress: LoadProgress) -> Generator[None]:
    """Report the growth of what is being downloaded; only growth counts as progress."""
    done = threading.Event()

    def watch() -> None:
        last = -1
        while True:
            if (now := tally.done()) != last:
                last = now
                progress(tally.stage, min(1.0, now / max(1, tally.total)))
            if done.wait(_POLL_S):
                return

    thread = threading.Thread(target=watch, name="download-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    progress(tally.stage, 1.0)
