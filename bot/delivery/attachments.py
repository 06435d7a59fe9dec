"""Pictures that users attach: which are taken, and how they are fetched.

They are never decoded here: a crafted file meets its decoder in the engine's process, which may
crash. This process reads their first bytes and counts the rest.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import aiohttp
import discord

from bot.delivery.text import safe
from bot.errors import InvalidRequest
from bot.words import _

BYTES_LIMIT: Final = 25 * 2**20
PIXELS_LIMIT: Final = 50_000_000
# Where Discord keeps attachments (https://discord.com/developers/docs/reference#cdn-endpoints).
_HOSTS: Final = frozenset({"cdn.discordapp.com", "media.discordapp.net"})
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30, sock_connect=5, sock_read=10)
_CHUNK: Final = 2**16
_MIB: Final = 2**20


def picture_kind(data: bytes) -> str | None:
    """Return what kind of picture begins so, or None."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:6] in {b"GIF87a", b"GIF89a"}:
        return "GIF"
    return None


def is_picture(attachment: discord.Attachment) -> bool:
    """Tell whether an attachment says that it is a picture."""
    return (attachment.content_type or "").startswith("image/")


def check_attachment(attachment: discord.Attachment) -> None:
    """Raise `InvalidRequest` for a file that is no picture or too large, by what Discord says."""
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
    """Fetches attachments from Discord's own hosts alone."""

    def __init__(self, api_url: str | None = None) -> None:
        # The sandbox serves its own files; its address is loopback by its setting's own check.
        self._sandbox = urlsplit(api_url).netloc if api_url else None

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
        if not self._allowed(url):
            raise InvalidRequest(unreachable)
        data = bytearray()
        try:
            # No redirects: they could lead anywhere, into the self-hoster's own network too.
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT) as session,
                session.get(url, allow_redirects=False) as response,
            ):
                if response.status != 200:  # noqa: PLR2004
                    raise InvalidRequest(unreachable)
                async for chunk in response.content.iter_chunked(_CHUNK):
                    data += chunk
                    if len(data) > BYTES_LIMIT:
                        raise InvalidRequest(
                            _(
                                "The picture {name} is too large: at most {limit} MiB are possible."
                            ).format(name=name, limit=BYTES_LIMIT // _MIB)
                        )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise InvalidRequest(unreachable) from error
        if picture_kind(bytes(data[:16])) is None:
            raise InvalidRequest(
                _("{name} is not a picture that I know: send a PNG, JPEG, WebP or GIF.").format(
                    name=name
                )
            )
        return bytes(data)

    def _allowed(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
        except ValueError:
            return False
        if self._sandbox is not None:
            return parts.netloc == self._sandbox
        return parts.scheme == "https" and parts.netloc in _HOSTS
