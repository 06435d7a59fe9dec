"""Pictures that users attach: which are taken, and how they are fetched.

They are never decoded here: a crafted file meets its decoder in the engine's process, which may
crash. This process reads their headers, and counts the rest.
"""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import Final

import aiohttp
import discord
from yarl import URL

from bot.config.proxy import proxy_for
from bot.errors import InvalidRequest
from bot.messages.text import safe
from bot.pictures.containers import picture_kind
from bot.pictures.headers import picture_size
from bot.words import _

log = logging.getLogger(__name__)

BYTES_LIMIT: Final = 25 * 2**20
PIXELS_LIMIT: Final = 50_000_000
# Where Discord keeps attachments (https://discord.com/developers/docs/reference#cdn-endpoints).
_HOSTS: Final = frozenset({"cdn.discordapp.com", "media.discordapp.net"})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5, sock_read=10)
_PAUSE_S: Final = 1.0
_CHUNK: Final = 2**16
_MIB: Final = 2**20


class _NotServedError(Exception):
    """Something else than the file was answered."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        # A redirect is meant, and is not followed.
        self.passing = status // 100 != 3  # noqa: PLR2004


class _TooLargeError(Exception):
    """The file is larger than `BYTES_LIMIT`."""


def is_picture(attachment: discord.Attachment) -> bool:
    """Tell whether an attachment says that it is a picture."""
    return (attachment.content_type or "").startswith("image/")


def check_attachment(attachment: discord.Attachment) -> None:
    """Raise `InvalidRequest` for a file that Discord says is not a picture, or too large.

    This spares a fetch; what counts is what the file itself says.
    """
    name = safe(attachment.filename, 100)
    if not is_picture(attachment):
        kind = safe(attachment.content_type or _("an unknown kind"), 60)
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
                log.info("a picture could not be fetched (%s); once more", _kind(error))
                await asyncio.sleep(pause)
            else:
                return _checked(data, name)
        raise AssertionError("the second try returns or raises")

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
    packed: its size would count before it is unpacked.
    """
    data = bytearray()
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
            data += chunk
            if len(data) > BYTES_LIMIT:
                raise _TooLargeError
    return bytes(data)


def _kind(error: Exception) -> str:
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
