"""`python -m bot.lab.tiny.train`: train the tiny model or a style of it, or go on with a run."""

from __future__ import annotations

import sys

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from bot.lab.tiny.train.options import parse
    from bot.lab.tiny.train.plan import Plan
    from bot.lab.tiny.train.run import run_replica
    from bot.lab.tiny.train.scenes import DRAWN_STYLES
    from bot.lab.tiny.train.style import run_style_replica


def main(arguments: list[str]) -> None:
    """Train; replicas beyond the first are processes of their own."""
    choices = {"style": DRAWN_STYLES}
    plan = parse(Plan, arguments, "python -m bot.lab.tiny.train", __doc__, choices)
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.state is not None:
        plan.state.mkdir(parents=True, exist_ok=True)
    run = run_style_replica if plan.style else run_replica
    if plan.replicas == 1:
        run(0, plan)
        return
    from torch.multiprocessing.spawn import spawn  # noqa: PLC0415 - only here

    spawn(run, (plan,), nprocs=plan.replicas)


if __name__ == "__main__":
    main(sys.argv[1:])
