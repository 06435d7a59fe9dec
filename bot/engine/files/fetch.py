"""One file over HTTP: what is there already is kept only where the server goes on just there."""

from __future__ import annotations

import logging
import os
import re
import threading
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any, Final

from bot.words import mark

log = logging.getLogger(__name__)

# In a row, none of which brought the file further than it ever was.
_TRIES: Final = 5
_PAUSE_S: Final = 1.0
_PIECE: Final = 2**20
_PATIENCE_S: Final = 30.0
# https://www.rfc-editor.org/rfc/rfc9110#field.content-range
_CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)
# By the names of classes: httpx and httpx2 have the same ones, neither is ours to import.
_REASONS: Final = (
    (r"^OfflineMode", "", mark("HF_HUB_OFFLINE is set")),
    (r"^ImportError$", "socks", mark("SOCKS proxies are not supported")),
    (r"^ProxyError$", "407", mark("the proxy wants a user and a password")),
    (r"^ProxyError$", "", mark("the proxy refuses it")),
    (r"Timeout", "", mark("no answer in time")),
    (r"", "certificate", mark("a certificate that is not valid")),
    (r"^Connect", "", mark("no connection")),
    (r"^(Read|Write|RemoteProtocol|Network)\w*Error$", "", mark("the connection was cut")),
    (r"^JSONDecodeError$", "", mark("the answer is not JSON")),
    (r"^(Key|Type|Value|Index|Attribute)Error$", "", mark("the answer is not as expected")),
)  # fmt: skip


def fetch(url: str, headers: dict[str, str], partial: Path, size: int) -> None:
    """Bring the file `partial` to `size` bytes with what `url` serves.

    A cut connection is taken up again where it ended. What the server sends is put where its
    Content-Range says, whatever its status: some answer a range with 200, some with the whole file
    and some with another place. Where that does not fit to what is there, the file is begun anew.
    It may end with more bytes than `size`, of which the caller has to complain.

    Raises the HTTP client's errors (with `response`, or what the network says), and `OSError` of
    the disk.
    """
    with partial.open("ab") as opened:
        if opened.seek(0, os.SEEK_END) > size:
            opened.truncate(0)
        tries, furthest = _TRIES, opened.seek(0, os.SEEK_END)
        while (there := opened.seek(0, os.SEEK_END)) < size:
            try:
                _take(url, headers, opened, there, size)
                failure: Exception = ValueError("the file ends before its size")
            except Exception as error:
                if isinstance(error, OSError) or status_of(error) is not None:
                    raise  # The disk's or the server's last word.
                failure = error
            if (there := opened.seek(0, os.SEEK_END)) >= size:
                return
            # Beyond what there ever was: a server that lets begin anew each time comes to an end.
            tries, furthest = (_TRIES, there) if there > furthest else (tries - 1, furthest)
            if tries < 0:
                raise failure
            log.info("a download was cut off (%s), and goes on", type(failure).__name__)
            threading.Event().wait(_PAUSE_S)


def _take(url: str, headers: dict[str, str], opened: IO[bytes], there: int, size: int) -> None:
    """Ask for what is missing after `there` bytes, and write what comes where it belongs."""
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff  # noqa: PLC0415

    # Packed, its bytes would be counted before they are unpacked.
    asked = {**headers, "Accept-Encoding": "identity"}
    if there:
        asked["Range"] = f"bytes={there}-"
    with http_stream_backoff(
        "GET",
        url,
        headers=asked,
        timeout=_PATIENCE_S,
        retry_on_exceptions=(),
        retry_on_status_codes=(HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS),
    ) as response:
        if there and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            start = None
        else:
            hf_raise_for_status(response)
            start = _start(response, size)
        if start is None or start > there:
            if not there:
                raise ValueError("the answer is another part than the beginning")
            log.warning("the server does not go on where a download ended: it begins anew")
            opened.truncate(0)
            return
        opened.truncate(start)
        for piece in response.iter_bytes(_PIECE):
            opened.write(piece)
            start += len(piece)
            if start > size:
                return


def _start(response: Any, size: int) -> int | None:
    """Return the place of an answer's first byte in the file; None where it cannot be known."""
    text = response.headers.get("Content-Range")
    if text is None:
        return 0 if response.status_code == HTTPStatus.OK else None
    said = _CONTENT_RANGE.fullmatch(text.strip())
    if said is None or said[3] not in {"*", str(size)}:
        return None
    return int(said[1])


def status_of(error: BaseException | None) -> int | None:
    """Return the HTTP status in an error or in what caused it."""
    while error is not None:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
        error = error.__cause__ or error.__context__
    return None


def why(error: BaseException) -> str:
    """Return in words why a download failed: of the HTTP client's errors only names are known."""
    if (status := status_of(error)) is not None:
        return f"HTTP {status}"
    found: BaseException | None = error
    while found is not None:
        text = str(found).lower()
        for names, words, reason in _REASONS:
            if re.search(names, type(found).__name__) and words in text:
                return reason
        found = found.__cause__ or found.__context__
    return mark("an unforeseen error, see the log")
