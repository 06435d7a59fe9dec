"""`python -m bot.lab.tiny.train.joint`: train drawing, editing, seeing and writing together."""

from __future__ import annotations

import sys

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from bot.lab.tiny.train.joint.plan import JointPlan
    from bot.lab.tiny.train.joint.run import run_joint
    from bot.lab.tiny.train.options import parse


def main(arguments: list[str]) -> None:
    """Train as the options say."""
    plan = parse(JointPlan, arguments, "python -m bot.lab.tiny.train.joint", __doc__)
    plan.out.mkdir(parents=True, exist_ok=True)
    if plan.state is not None:
        plan.state.mkdir(parents=True, exist_ok=True)
    run_joint(plan)


if __name__ == "__main__":
    main(sys.argv[1:])
