"""Addresses that browsers and proxies know: origins of pages, and the API's own from outside."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

ANY: Final = "*"
# Pages of browsers, and those of extensions and apps, which have schemes of their own.
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST: Final = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_NO_ORIGIN: Final = (
    "it must be origins such as https://app.example.org, separated by commas, or * for all"
)
_NO_URL: Final = "it must be an address such as https://example.org or https://example.org/images"


def origins(value: Any) -> Any:
    """Return the set of origins of a text with commas, each as browsers send it.

    Raises `ValueError`; anything but text is returned as it is.
    """
    if not isinstance(value, str):
        return value
    return frozenset(map(_origin, value.replace(",", " ").split()))


def _origin(text: str) -> str:
    if text == ANY:
        return ANY
    parts = _parts(text, _NO_ORIGIN)
    if parts.path.strip("/") or not _SCHEME.fullmatch(parts.scheme):
        raise ValueError(_NO_ORIGIN)
    return f"{parts.scheme}://{_host(parts, _NO_ORIGIN)}"


def public_url(value: str | None) -> str | None:
    """Return the address that the API has from outside, without a slash at its end."""
    if value is None:
        return None
    parts = _parts(value, _NO_URL)
    if parts.scheme not in _DEFAULT_PORTS or not parts.path.isascii():
        raise ValueError(_NO_URL)
    return f"{parts.scheme}://{_host(parts, _NO_URL)}{parts.path.rstrip('/')}"


def _parts(text: str, otherwise: str) -> SplitResult:
    """Return the parts of an address; raise `ValueError` for one that holds more than it should."""
    try:
        parts = urlsplit(text.strip())
    except ValueError:
        raise ValueError(otherwise) from None
    if not parts.netloc or "@" in parts.netloc or "?" in text or "#" in text or " " in text.strip():
        raise ValueError(otherwise)
    return parts


def _host(parts: SplitResult, otherwise: str) -> str:
    """Return host and port as browsers write them: small letters, and no port that is implied."""
    try:
        port = parts.port
    except ValueError:
        raise ValueError(otherwise) from None
    host = parts.netloc.lower()
    if parts.netloc.rpartition("]")[2].count(":"):
        host = host.rpartition(":")[0]
    if not _HOST.fullmatch(host):
        raise ValueError(otherwise)
    return host if port in {None, _DEFAULT_PORTS.get(parts.scheme)} else f"{host}:{port}"
