"""Stages of loading: what the bot says while it reads a network. The parent translates it."""

from __future__ import annotations

from typing import Final

from bot.words import mark

LOADING: Final = {
    "transformer": mark("loading the transformer"),
    "text encoder": mark("loading the text encoder"),
    "VAE": mark("loading the VAE"),
    "U-Net": mark("loading the U-Net"),
    "second text encoder": mark("loading the second text encoder"),
}
LOADING_VISION: Final = mark("loading the vision tower")
LOADING_HEAD: Final = mark("loading the language head")
DOWNLOADING_AND_CONVERTING: Final = mark("downloading and converting the model")
CONVERTING: Final = {
    "transformer": mark("converting the transformer"),
    "text encoder": mark("converting the text encoder"),
}
