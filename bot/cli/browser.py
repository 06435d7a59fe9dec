"""The demo's page in the browser of whoever started it, where there is one to look."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Mapping


def somebody_looks(
    environment: Mapping[str, str] = os.environ, *, at_terminal: bool | None = None
) -> bool:
    """Tell whether a page that is opened here is seen: at a terminal, with a display, not in CI.

    Without a display `webbrowser` would start a browser for text in the terminal; over SSH it would
    start one on this machine, or slowly on the other.
    """
    if at_terminal is None:
        at_terminal = sys.stdout.isatty()
    if not at_terminal or environment.get("CI") or environment.get("SSH_CONNECTION"):
        return False
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))


def open_page(url: str) -> None:
    """Open a page, without waiting for the browser: some only return once they are closed."""
    threading.Thread(target=_open, args=(url,), name="browser", daemon=True).start()


def _open(url: str) -> None:
    # The address stands in the terminal: a browser that cannot be started is no fault of the demo.
    try:
        webbrowser.open(url)
    except (OSError, webbrowser.Error):
        return
