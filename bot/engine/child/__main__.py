"""The engine child's entry point: ``python -m bot.engine.child PARENT_PID``.

The frames travel on the pipes that were stdin and stdout. Libraries print to stdout whenever they
like, so both descriptors are taken away before anything else is imported: 0 becomes empty, and 1
becomes another name of the log on 2.
"""

from __future__ import annotations

import sys

from bot.engine.pipes import take_pipes


def main() -> None:
    """Serve the parent until it closes the pipe."""
    frames_in, frames_out = take_pipes()
    # Only now: whatever these imports print goes to the log.
    import time  # noqa: PLC0415

    started = time.monotonic()
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415

    leave_signals_to_parent()
    die_with_parent(int(sys.argv[1]))

    from bot.engine.child.serve import serve  # noqa: PLC0415

    serve(frames_in, frames_out, started)


if __name__ == "__main__":
    main()
