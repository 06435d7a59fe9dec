"""Settings in `.env` for libraries below the bot, which read the environment and not that file."""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from bot.config.proxy import settled

OF_LIBRARIES: Final = re.compile(
    r"""
    HF_\w+|HUGGINGFACE_\w+|MODELSCOPE_\w+|TRANSFORMERS_\w+|SAFETENSORS_\w+|DIFFSYNTH_\w+
    |CUDA_\w+|NVIDIA_\w+|TORCH\w*|PYTORCH_\w+|TRITON_\w+|OMP_\w+|MKL_\w+
    |(HTTP|HTTPS|ALL|NO)_PROXY|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""The names of settings that are theirs: hubs and logins, cards, proxies."""


def pass_on(file: Path = Path(".env"), environment: MutableMapping[str, str] = os.environ) -> None:
    """Put the libraries' settings of `file` into the environment, where they are not set there.

    Proxies are set there in either case of letters; see `settled` for what is done about them
    besides. To be called before the libraries are imported. A file that cannot be read is for
    `load_settings` to complain of.
    """
    # The doctor has to run even where packages are missing.
    with suppress(ImportError, OSError, UnicodeDecodeError):
        from dotenv import dotenv_values  # noqa: PLC0415

        set_there = {name.lower() for name in environment if name.lower().endswith("_proxy")}
        # With a byte-order mark, which Windows' editors write, the first name would be another.
        for name, value in dotenv_values(file, interpolate=False, encoding="utf-8-sig").items():
            if value and OF_LIBRARIES.fullmatch(name) and name.lower() not in set_there:
                environment.setdefault(name, value)
    for name, change in settled(environment).items():
        if change is None:
            environment.pop(name, None)
        else:
            environment[name] = change
