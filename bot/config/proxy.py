"""The proxy that the environment names (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY)."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from bot.config.hosts import is_loopback
from bot.errors import ConfigError

# A WebSocket goes where the requests go: browsers and curl do the same.
_SCHEMES: Final = {"ws": "http", "wss": "https"}
# What stands in ordinary lines by chance would make the log unreadable, and guards nothing.
_SHORTEST_SECRET: Final = 4
_SUCH_AS: Final = "http://127.0.0.1:7890"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy: its address without user and password, and the variable that names it."""

    url: str
    variable: str
    user: str | None = field(default=None, repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Return what may be shown: the address and the variable, no password."""
        return f"{self.url} ({self.variable})"

    def with_login(self) -> str:
        """Return the address with the login, as HTTP clients take it. Never to be shown."""
        if self.user is None:
            return self.url
        scheme, rest = self.url.split("://", 1)
        user, password = quote(self.user, safe=""), quote(self.password, safe="")
        return f"{scheme}://{user}:{password}@{rest}"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which `url` is asked; None for this machine and for NO_PROXY's.

    The variable of the address's own scheme counts before ALL_PROXY, lower case before upper case.
    Where none is set, Windows' and macOS' own settings count. Raises `ConfigError` with a sentence
    for a proxy that is not HTTP (SOCKS, for one) or no address.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    found = getproxies()
    name = scheme if found.get(scheme) else "all"
    text = found.get(name, "").strip()
    at = f"{host}:{parts.port}" if parts.port else host
    if not text or is_loopback(host) or proxy_bypass(at):
        return None
    variable = _variable(name)
    address = _address(text, variable)
    user = None if address.username is None else unquote(address.username)
    shown = f"[{address.hostname}]" if ":" in (address.hostname or "") else address.hostname
    port = "" if address.port is None else f":{address.port}"
    return Proxy(
        f"{address.scheme}://{shown}{port}", variable, user, unquote(address.password or "")
    )


def proxy_secrets() -> tuple[str, ...]:
    """Return what must not be logged of the proxies' logins, in every form that it may have."""
    found: set[str] = set()
    for name, text in getproxies().items():
        if name == "no" or "@" not in text:
            continue
        login = text.split("://", 1)[-1].rpartition("@")[0]
        plain = unquote(login)
        found |= {f"{login}@", plain, base64.b64encode(plain.encode()).decode()}
        found |= {one.partition(":")[2] for one in (login, plain)}
    # The longest first: a part that is gone would leave the rest of the whole behind.
    return tuple(sorted((f for f in found if len(f) >= _SHORTEST_SECRET), key=len, reverse=True))


def _variable(name: str) -> str:
    for spelt in (f"{name}_proxy", f"{name}_proxy".upper()):
        if os.environ.get(spelt):
            return spelt
    return "the system's settings"


def _address(text: str, variable: str) -> SplitResult:
    text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(text)
        sound = bool(parts.hostname) and parts.port != 0
        unquote(parts.netloc).encode("latin-1")  # aiohttp's encoding of a login
    except ValueError:
        raise ConfigError(f"{variable} is no address of a proxy, such as {_SUCH_AS}.") from None
    if parts.scheme.startswith("socks"):
        raise ConfigError(
            f"{variable} names a SOCKS proxy, which the bot cannot use: set HTTPS_PROXY to the "
            f"proxy's HTTP port, such as {_SUCH_AS}; nearly all of them have one."
        )
    if parts.scheme not in {"http", "https"} or not sound:
        raise ConfigError(f"{variable} is no address of a proxy, such as {_SUCH_AS}.")
    return parts


def settled(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return what to change in the proxies of an environment (None: take it out) for libraries.

    Two things that every HTTP library does in its own way: this machine's own addresses never go
    through a proxy; and a SOCKS proxy in ALL_PROXY, beside an HTTP one in HTTPS_PROXY, is no reason
    to refuse the work (`httpx` does, unless a package for SOCKS is installed).
    """
    values = {name: value for name, value in environment.items() if value.strip()}
    folded = {name.lower(): value for name, value in values.items()}
    changes: dict[str, str | None] = {}
    if "https_proxy" in folded and folded.get("all_proxy", "").lower().startswith("socks"):
        changes |= {name: None for name in values if name.lower() == "all_proxy"}
    if not {"http_proxy", "https_proxy", "all_proxy"} & set(folded):
        return changes
    # Where both spellings are there the lower one counts, so that one is extended.
    names = [name for name in ("no_proxy", "NO_PROXY") if name in values] or ["NO_PROXY"]
    given = [one.strip() for one in values.get(names[0], "").split(",") if one.strip()]
    missing = [one for one in _LOOPBACK if one not in given]
    if missing and "*" not in given:
        changes[names[0]] = ",".join([*given, *missing])
    return changes
