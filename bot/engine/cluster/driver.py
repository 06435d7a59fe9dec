"""The driver process: ``python -m bot.engine.cluster.driver PARENT_PID``.

It alone imports Ray. It joins the cluster (or starts one on this machine), makes the actors and
carries messages between them and the bot, to which it talks as an engine child does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

_TOKEN: Final = Path.home() / ".ray" / "auth_token"


def main() -> None:
    """Serve the bot until it closes the pipe."""
    from bot.engine.pipes import take_pipes  # noqa: PLC0415

    frames_in, frames_out = take_pipes()
    # Only now: whatever these imports print goes to the log.
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    die_with_parent(int(sys.argv[1]))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys() or _TOKEN.is_file():
        # As `ray start` does; joining alone would not look for the token.
        os.environ.setdefault("RAY_AUTH_MODE", "token")

    from bot.engine.cluster.serve import serve  # noqa: PLC0415

    serve(frames_in, frames_out)


if __name__ == "__main__":
    main()
