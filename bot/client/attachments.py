"""Pictures that users attach: which are taken, and how they are fetched.

They are never decoded here: a crafted file meets its decoder in the engine's process, which may
crash. This process reads their headers, and counts the rest.
"""

from __future__ import annotations

import asyncio
import io
import logging
from http import HTTPStatus
from typing import Final, Protocol

import aiohttp
import discord
from yarl import URL

from bot.config.proxy import proxy_for
from bot.errors import InvalidRequest
from bot.messages.text import safe
from bot.pictures.containers import picture_kind
from bot.pictures.headers import BYTES_LIMIT, PIXELS_LIMIT, picture_size
from bot.words import _

log = logging.getLogger(__name__)

# Where Discord keeps attachments (https://discord.com/developers/docs/reference#cdn-endpoints).
# The last two are its proxy of other people's pictures (an embed's `proxy_url`): Discord asks for
# those, not this machine.
_HOSTS: Final = frozenset(
    {
        "cdn.discordapp.com",
        "media.discordapp.net",
        "images-ext-1.discordapp.net",
        "images-ext-2.discordapp.net",
    }
)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5, sock_read=10)
_PAUSE_S: Final = 1.0
_CHUNK: Final = 2**16
_MIB: Final = 2**20
# What Discord says of a file whose kind it has not looked at; now and then it says nothing.
_UNTOLD: Final = frozenset({"", "application/octet-stream", "binary/octet-stream"})
# By so many bytes every kind of picture is known (`picture_kind`).
_MAGIC_BYTES: Final = 12


class _NotServedError(Exception):
    """Something else than the file was answered."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        # A redirect is meant, and is not followed.
        self.passing = status // 100 != 3  # noqa: PLR2004


class _TooLargeError(Exception):
    """The file is larger than `BYTES_LIMIT`."""


class Labelled(Protocol):
    """A file with the kind that its sender says it has."""

    @property
    def content_type(self) -> str | None:
        """The media type; None where nothing is said."""


def _kind(file: Labelled) -> str:
    return (file.content_type or "").partition(";")[0].strip().lower()


def says_picture(file: Labelled) -> bool:
    """Tell whether a file is labelled as a picture."""
    return _kind(file).startswith("image/")


def may_be_picture(file: Labelled) -> bool:
    """Tell whether a file is labelled as a picture, or as nothing in particular.

    The label comes from the file's name and may be missing; what counts is the header.
    """
    return says_picture(file) or _kind(file) in _UNTOLD


def check_attachment(attachment: discord.Attachment) -> None:
    """Raise `InvalidRequest` for a file that Discord says is not a picture, or too large.

    This spares a fetch; what counts is what the file itself says.
    """
    name = safe(attachment.filename, 100)
    if not may_be_picture(attachment):
        kind = safe(attachment.content_type or "", 60)
        raise InvalidRequest(
            _(
                "I cannot use the file {name} ({kind}): send a PNG, JPEG, WebP or GIF picture."
            ).format(name=name, kind=kind)
        )
    if attachment.size > BYTES_LIMIT:
        raise InvalidRequest(
            _("The picture {name} is too large: at most {limit} MiB are possible.").format(
                name=name, limit=BYTES_LIMIT // _MIB
            )
        )
    if (attachment.width or 0) * (attachment.height or 0) > PIXELS_LIMIT:
        raise InvalidRequest(
            _("The picture {name} is too large: at most {limit} megapixels are possible.").format(
                name=name, limit=PIXELS_LIMIT // 10**6
            )
        )


class Fetcher:
    """Fetches attachments from Discord's own hosts alone, through the environment's proxy."""

    def __init__(self, api_url: str | None = None) -> None:
        """Raise `ConfigError` for a proxy that cannot be used."""
        # The sandbox serves its own files; its address is loopback by its setting's own check.
        self._sandbox = URL(api_url).origin() if api_url else None
        found = {} if api_url else {host: proxy_for(f"https://{host}") for host in _HOSTS}
        self._proxies: dict[str | None, str] = {
            host: proxy.with_login() for host, proxy in found.items() if proxy
        }

    async def fetch(self, attachment: discord.Attachment) -> bytes:
        """Return an attached picture's bytes; raise `InvalidRequest` where it cannot be used."""
        check_attachment(attachment)
        return await self.fetch_url(attachment.url, attachment.filename)

    async def fetch_url(self, url: str, filename: str) -> bytes:
        """Return the bytes of a picture that Discord keeps; raise `InvalidRequest`."""
        name = safe(filename, 100)
        unreachable = _("The picture {name} could not be fetched. Please attach it again.").format(
            name=name
        )
        address = self._allowed(url)
        if address is None:
            raise InvalidRequest(unreachable)
        too_large = _("The picture {name} is too large: at most {limit} MiB are possible.").format(
            name=name, limit=BYTES_LIMIT // _MIB
        )
        # One bad answer of the network for files says nothing about the file.
        for pause in (_PAUSE_S, None):
            try:
                data = await _downloaded(address, self._proxies.get(address.raw_host))
            except _TooLargeError:
                raise InvalidRequest(too_large) from None
            except (_NotServedError, TimeoutError, aiohttp.ClientError, OSError) as error:
                if pause is None or not getattr(error, "passing", True):
                    raise InvalidRequest(unreachable) from error
                log.info("a picture could not be fetched (%s); once more", _cause(error))
                await asyncio.sleep(pause)
            else:
                return _checked(data, name)
        raise AssertionError("the second try returns or raises")

    def allows(self, url: str) -> bool:
        """Tell whether `fetch_url` asks this address at all."""
        return self._allowed(url) is not None

    def _allowed(self, url: str) -> URL | None:
        """Return the address where it is Discord's own.

        It is read once, by the library that then asks it: two readers may disagree about a host.
        """
        try:
            address = URL(url)
        except ValueError:
            return None
        if not address.raw_host or address.raw_user is not None or address.raw_password is not None:
            return None
        if self._sandbox is not None:
            return address if address.origin() == self._sandbox else None
        bare = address.scheme == "https" and address.explicit_port is None
        return address if bare and address.raw_host in _HOSTS else None


async def _downloaded(address: URL, proxy: str | None) -> bytes:
    """Return what lies at an address; raise `_NotServedError`, `_TooLargeError` or aiohttp's own.

    No redirects: they could lead anywhere, into the self-hoster's own network too. And nothing
    packed: its size would count before it is unpacked. What is no picture by its first bytes is not
    read on.
    """
    data = io.BytesIO()
    async with (
        aiohttp.ClientSession(
            timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}, auto_decompress=False
        ) as session,
        session.get(address, allow_redirects=False, proxy=proxy) as response,
    ):
        if response.status != HTTPStatus.OK:
            raise _NotServedError(response.status)
        if (response.content_length or 0) > BYTES_LIMIT:
            raise _TooLargeError
        async for chunk in response.content.iter_chunked(_CHUNK):
            begun = data.tell() >= _MAGIC_BYTES
            data.write(chunk)
            if data.tell() > BYTES_LIMIT:
                raise _TooLargeError
            known = not begun and data.tell() >= _MAGIC_BYTES
            if known and picture_kind(data.getvalue()) is None:
                break
    # Its buffer itself: a picture is in memory once.
    return data.getvalue()


def _cause(error: Exception) -> str:
    return str(error) if isinstance(error, _NotServedError) else type(error).__name__


def _checked(data: bytes, name: str) -> bytes:
    """Return a file's bytes; raise `InvalidRequest` where the header is not a usable picture's."""
    if picture_kind(data) is None:
        raise InvalidRequest(
            _("{name} is not a picture that I know: send a PNG, JPEG, WebP or GIF.").format(
                name=name
            )
        )
    width, height = picture_size(data) or (0, 0)
    if width * height > PIXELS_LIMIT:
        raise InvalidRequest(
            _("The picture {name} is too large: at most {limit} megapixels are possible.").format(
                name=name, limit=PIXELS_LIMIT // 10**6
            )
        )
    return data
