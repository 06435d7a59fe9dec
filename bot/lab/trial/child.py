"""The trial's process: `python -m bot.lab.trial.child PARENT_PID`, with a wish as a line on stdin.

What the parts find goes to stdout as lines of JSON: the part's name with `begins`, then with
`figures`, `error` or `lacks`. What libraries print goes to stderr.
"""

from __future__ import annotations

import sys

from bot.engine.pipes import take_pipes


def main() -> int:
    """Run the parts in order; one that fails costs those that need it."""
    lines_in, lines_out = take_pipes()
    # Only now: whatever these imports print goes to the log.
    import importlib  # noqa: PLC0415
    import json  # noqa: PLC0415
    import os  # noqa: PLC0415
    from functools import partial  # noqa: PLC0415
    from typing import Any  # noqa: PLC0415

    from bot.engine.child.confined import confine_engine  # noqa: PLC0415
    from bot.engine.files.find import keep_compiled_code  # noqa: PLC0415
    from bot.engine.lifeline import die_with_parent, leave_signals_to_parent  # noqa: PLC0415
    from bot.errors import EngineError  # noqa: PLC0415
    from bot.lab.trial.wish import Wish  # noqa: PLC0415

    leave_signals_to_parent()
    die_with_parent(int(sys.argv[1]))
    with os.fdopen(lines_in, encoding="utf-8") as stream:
        wish = Wish.from_json(stream.readline())

    def say(part: str, **values: Any) -> None:
        os.write(lines_out, (json.dumps({"part": part, **values}) + "\n").encode())

    failed: set[str] = set()

    def attempt(name: str, work: Any, needs: tuple[str, ...] = ()) -> None:
        if lacking := next((need for need in needs if need in failed), None):
            failed.add(name)
            say(name, lacks=lacking)
            return
        say(name, begins=True)
        try:
            figures = work()
        except Exception as error:  # noqa: BLE001 - the other parts still count
            failed.add(name)
            spoken = error.spoken() if isinstance(error, EngineError) else None
            say(name, error=(spoken or f"{type(error).__name__}: {error}")[:500])
        else:
            say(name, figures=figures)

    def confinement() -> dict[str, Any]:
        # Only a folder that is there can be allowed.
        keep_compiled_code(wish.options.model_path)
        # A model of no name: there is nothing to download, and no folder to make for it.
        confine_engine("", wish.options)
        return {"asked": wish.options.confinement}

    def libraries() -> dict[str, Any]:
        from bot.engine.child.quick_imports import quick_imports  # noqa: PLC0415

        with quick_imports():
            importlib.import_module("bot.lab.trial.sequence")  # torch, for the first time
        return {}

    attempt("confinement", confinement)
    attempt("libraries", libraries)
    if "libraries" in failed:
        return 1
    from bot.lab.trial.bench import Bench  # noqa: PLC0415
    from bot.lab.trial.sequence import SEQUENCE  # noqa: PLC0415

    bench = Bench(wish)
    for name, (work, needs) in SEQUENCE.items():
        attempt(name, partial(work, bench), needs)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
