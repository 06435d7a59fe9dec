"""A self-hosted Discord bot that draws with Qwen-Image on one consumer GPU."""

import sys

__version__ = "0.2.0"

if sys.version_info < (3, 11):  # noqa: UP036 - older ones would show a traceback
    raise SystemExit(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}.")
