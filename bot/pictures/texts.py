"""Texts in a picture file, by the names that their writers gave them, wherever the file has them.

A PNG's text chunks, and the Exif and XMP of a PNG, JPEG or WebP. What Exif has no name for is
`UserComment`; what stands as `name:{…}` in a tag of a camera's (ComfyUI's way) is under that name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from bot.pictures import exif
from bot.pictures.containers import jpeg_segments, picture_kind, png_chunks
from bot.pictures.exif import VALUE_LIMIT, TooLongError

COMMENT: Final = "UserComment"
SOFTWARE: Final = "Software"
PLAIN_SETTINGS: Final = (
    *("negative_prompt", "seed", "steps", "num_inference_steps", "guidance_scale", "cfg_scale"),
    *("sampler", "sampler_name", "model", "use_stable_diffusion_model"),
)
"""What simple programs write beside a plain `prompt`, each under its own name."""
_TEXTS_LIMIT: Final = 2 * VALUE_LIMIT
# What programs say how a picture was made under; others' texts are not even unpacked.
_NAMES: Final = frozenset(
    {
        *("parameters", "request", "prompt", "invokeai_metadata", "sd-metadata", "Dream"),
        *("Comment", "Description", SOFTWARE, *PLAIN_SETTINGS),
    }
)
_NAMED: Final = re.compile(
    r"\s*(prompt|workflow|request|parameters)\s*:\s*(?=[{\"])", re.IGNORECASE
)
_COMMENT_SEGMENT: Final = 0xFE
# XML's own, the ampersand last, and line ends in attributes.
_ENTITIES: Final = {
    "&lt;": "<",
    "&gt;": ">",
    "&quot;": '"',
    "&apos;": "'",
    "&#10;": "\n",
    "&#xA;": "\n",
    "&#13;": "",
    "&#xD;": "",
    "&amp;": "&",
}
# What the numbers of most Chinese, Japanese and Korean characters begin with.
_EAST_ASIAN: Final = bytes({*range(0x4E, 0xA0), *range(0xAC, 0xD8), 0x30, 0xFF})


@dataclass(slots=True)
class Texts:
    """The texts by name, and the names of those that are too long to be read."""

    found: dict[str, str] = field(default_factory=dict[str, str])
    too_long: set[str] = field(default_factory=set[str])

    def get(self, name: str) -> str:
        """Return a text without what surrounds it, empty where there is none."""
        return self.found.get(name, "")

    def add(self, name: str, text: str) -> None:
        """Keep a text unless it is empty, or there is one of that name."""
        if text := text.strip("\0 \t\r\n"):
            self.found.setdefault(name, text)


def read_texts(data: bytes) -> Texts:
    """Return what a PNG, JPEG or WebP has to say; a broken file's is what stands before its damage.

    Reads 4 MiB of a text and 8 MiB in all.
    """
    texts = Texts()
    if picture_kind(data) == "PNG":
        _read_chunks(data, texts)
    _read_exif(data, texts)
    _read_xmp(data, texts)
    if picture_kind(data) == "JPEG":
        for marker, body in jpeg_segments(data):
            if marker == _COMMENT_SEGMENT:
                texts.add("Comment", decoded(body))
    return texts


def _read_chunks(data: bytes, texts: Texts) -> None:
    room = _TEXTS_LIMIT
    for kind, body in png_chunks(data):
        # ComfyUI has a chunk of its own where the file is an animation.
        if kind not in {b"tEXt", b"zTXt", b"iTXt", b"comf"}:
            continue
        name = decoded(bytes(body[:80]).partition(b"\0")[0])
        if name not in _NAMES:
            continue
        if len(body) > VALUE_LIMIT or room < 0:
            texts.too_long.add(name)
            continue
        try:
            text = _text(kind, bytes(body).partition(b"\0")[2])
        except TooLongError:
            texts.too_long.add(name)
            room -= VALUE_LIMIT
        else:
            room -= len(text)
            texts.add(name, text)


def _text(kind: bytes, rest: bytes) -> str:
    if kind == b"iTXt":
        return (exif.international(rest) or b"").decode("utf-8", "replace")
    if kind == b"zTXt":
        return decoded(exif.inflated(rest[1:]) or b"")
    return decoded(rest)


def decoded(text: bytes) -> str:
    """Return a text whose standard says Latin-1 or ASCII, and whose writer may not have known.

    Writers in C, C# and Go put UTF-8 there; Latin-1 that is valid UTF-8 is as good as never meant.
    """
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _read_exif(data: bytes, texts: Texts) -> None:
    tiff = exif.exif_block(data)
    for tag, value in exif.read_exif(tiff).items():
        too_long = len(value) > VALUE_LIMIT
        if tag == exif.USER_COMMENT:
            if too_long:
                texts.too_long.add(COMMENT)
            else:
                texts.add(COMMENT, comment(value))
        elif tag != exif.ORIENTATION:
            text = decoded(value)
            if tag == exif.SOFTWARE:
                texts.add(SOFTWARE, text)
            elif (named := _NAMED.match(text)) is None:
                continue
            elif too_long:
                texts.too_long.add(named[1].lower())
            else:
                texts.add(named[1].lower(), text[named.end() :])


def comment(value: bytes) -> str:
    """Return the text of a UserComment, whose first eight bytes name its encoding.

    (Exif 2.32, 4.6.5.) Some writers leave them out, or name one and use another.
    """
    code, text = value[:8].rstrip(b"\0 ").upper(), value[8:]
    if code == b"JIS":
        return text.decode("iso2022_jp", "replace")
    if code not in {b"UNICODE", b"ASCII", b""}:
        code, text = b"", value
    bare = text.rstrip(b"\0")
    if code == b"UNICODE" or bare.count(0) * 4 > len(bare):
        return _utf16(text, bare)
    return decoded(bare)


def _utf16(text: bytes, bare: bytes) -> str:
    """Return what calls itself Unicode, `bare` being without the zero bytes at its end."""
    if not bare.count(0):
        try:
            return bare.decode("utf-8")
        except UnicodeDecodeError:
            pass
    # Writers disagree about the byte order. What stands in all parameters decides, then a mark.
    big, little = (text.decode(order, "replace") for order in ("utf-16-be", "utf-16-le"))
    for sign in ("Steps: ", '{"', "\ufeff"):
        if (sign in big) != (sign in little):
            return (big if sign in big else little).lstrip("\ufeff")
    return big if _likelihood(bare[0::2]) >= _likelihood(bare[1::2]) else little


def _likelihood(half: bytes) -> int:
    """Weigh whether such bytes come first in their characters, every second being among them.

    Latin letters begin with a zero, which ends few others; then counts how Chinese, Japanese and
    Korean ones begin.
    """
    return 3 * half.count(0) + len(half) - len(half.translate(None, _EAST_ASIAN))


def _read_xmp(data: bytes, texts: Texts) -> None:
    packet = decoded(exif.xmp_packet(data))
    texts.add(COMMENT, _property(packet, "exif:UserComment"))
    texts.add(SOFTWARE, _property(packet, "xmp:CreatorTool"))


def _property(packet: str, name: str) -> str:
    """Return the text of a property's first value; no XML is parsed, which could grow."""
    text = _between(packet, f"<{name}>", f"</{name}>")
    if item := _between(text, "<rdf:li", "</rdf:li>"):
        text = item.partition(">")[2]
    text = text or _between(packet, f'{name}="', '"')
    for escaped, character in _ENTITIES.items():
        text = text.replace(escaped, character)
    return text


def _between(text: str, start: str, end: str) -> str:
    _before, found, rest = text.partition(start)
    inner, closed, _after = rest.partition(end)
    return inner if found and closed else ""
