"""Pixels as they were meant: eight bits a channel, in sRGB, which the models were taught in."""

from __future__ import annotations

import io
import logging
from typing import Final

import numpy as np
from PIL import Image, ImageCms

log = logging.getLogger(__name__)

# What a profile may describe (ICC.1:2022, 7.2.8), and the pixels that it then fits. Many writers
# leave an RGB profile in a picture whose colours they took out.
_FITTING: Final = {"RGB": {"RGB", "L"}, "GRAY": {"L"}, "CMYK": {"CMYK"}}
_WIDE: Final = frozenset({"I;16", "I;16B", "I;16L"})
_KEPT: Final = frozenset({"L", "LA", "RGB", "RGBA", "CMYK"})
_BYTE_MAX: Final = 255


def eight_bits(image: Image.Image) -> Image.Image:
    """Return the picture as `L`, `LA`, `RGB`, `RGBA` or `CMYK`, its profile with it.

    Sixteen bits become their upper eight: Pillow's own conversion of grey clips instead, and turns
    all that is not nearly black into white. A colour that stands for transparency becomes an alpha.
    """
    key = image.info.get("transparency")
    if image.mode in _WIDE:
        values = np.asarray(image)
        planes = [(values >> 8).astype(np.uint8)]
        if key is not None:
            planes.append((values != key) * np.uint8(_BYTE_MAX))
        bands = [Image.fromarray(plane) for plane in planes]
        grey = bands[0] if key is None else Image.merge("LA", bands)
        grey.info = {k: v for k, v in image.info.items() if k != "transparency"}
        return grey
    if isinstance(key, tuple) and max(key) > _BYTE_MAX:
        # Pillow unpacks the upper bytes of such pixels, but leaves this colour as wide as it was.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if key is not None:
        return image.convert("RGBA")
    if image.mode in _KEPT:
        return image
    return image.convert({"1": "L", "P": "RGB"}.get(image.mode, "RGBA"))


def to_srgb(image: Image.Image) -> Image.Image:
    """Return a picture of `eight_bits` in sRGB where it carries a profile that fits its pixels.

    One that is broken, or describes something else, is left out, as browsers do. The result is
    `RGB`, `RGBA` where there is an alpha, or what came in.
    """
    icc = image.info.get("icc_profile")
    if not icc:
        return image
    alpha = image.getchannel("A") if "A" in image.getbands() else None
    colours = image.convert({"RGBA": "RGB", "LA": "L"}.get(image.mode, image.mode))
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        space = str(getattr(profile.profile, "xcolor_space", "")).strip()
        if colours.mode not in _FITTING.get(space, ()):
            return image
        if space == "RGB":
            colours = colours.convert("RGB")
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, profile, srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError) as error:
        log.info("a picture's colour profile is left out: %s", type(error).__name__)
        return image
    if converted is None:  # Only where it is done in place.
        return image
    if alpha is not None:
        converted.putalpha(alpha)
    return converted
