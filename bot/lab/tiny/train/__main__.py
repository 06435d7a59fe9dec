"""`python -m bot.lab.tiny.train`: train the tiny model or a style of it, or go on with a run."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

from bot.engine.child.quick_imports import quick_imports

with quick_imports():
    from bot.lab.tiny.train.plan import Plan
    from bot.lab.tiny.train.run import run_replica
    from bot.lab.tiny.train.scenes import DRAWN_STYLES
    from bot.lab.tiny.train.style import run_style_replica


def parse(arguments: list[str]) -> Plan:
    """Return the plan that the command line asks for: one option a field of `Plan`."""
    parser = argparse.ArgumentParser("python -m bot.lab.tiny.train", description=__doc__)
    hints: dict[str, Any] = get_type_hints(Plan)
    for field in fields(Plan):
        name = f"--{field.name.replace('_', '-')}"
        kind = hints[field.name]
        if field.name == "out":
            parser.add_argument(name, type=Path, required=True)
        elif field.name == "style":
            parser.add_argument(name, choices=DRAWN_STYLES, default=field.default)
        elif kind is bool:
            parser.add_argument(name, action=argparse.BooleanOptionalAction, default=field.default)
        else:
            plain = kind if kind in (int, float, str) else Path
            parser.add_argument(name, type=plain, default=field.default)
    return Plan(**vars(parser.parse_args(arguments)))


def main(arguments: list[str]) -> None:
    """Train; replicas beyond the first are processes of their own."""
    plan = parse(arguments)
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
