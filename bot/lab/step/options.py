"""The benchmark's command line; it imports torch only when it runs.

`python -m bot.lab.step.options` measures the transformer with random weights: DiffSynth's own,
un-offloaded, and ours at several budgets and precisions, in turn in one process.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's options to `parser`."""
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument(
        "--model",
        default="Qwen/Qwen-Image",
        help="Qwen/Qwen-Image, Qwen/Qwen-Image-Edit-2511, or Qwen/Qwen-Image-2.1 for its "
        "transformer (without LoRA)",
    )
    parser.add_argument("--small", action="store_true", help="a toy network, for any machine")
    parser.add_argument("--layers", type=int, help="fewer blocks than the model's 60")
    parser.add_argument(
        "--budgets", default="14,8,4", help="GiB, with commas; fractions are allowed"
    )
    parser.add_argument(
        "--precisions", default="fp8,fp8-fast,int8,int8-fast", help="of ours, with commas"
    )
    parser.add_argument("--size", default="1344x768", help="WIDTHxHEIGHT of the picture")
    parser.add_argument("--large", default="2048x2048", help="the largest picture")
    parser.add_argument(
        "--references",
        default="",
        help="WIDTHxHEIGHT of pictures that each one is drawn after, with commas; none of 2.1",
    )
    parser.add_argument("--rounds", type=int, default=3, help="alternated rounds")
    parser.add_argument("--steps", type=int, default=3, help="timed steps a round")
    parser.add_argument("--schedule", type=int, default=40, help="steps of a whole picture")
    parser.add_argument("--no-compile", action="store_true", help="leave out compiled variants")
    parser.add_argument("--no-eager", action="store_true", help="leave out what is not compiled")
    parser.add_argument("--no-pinning", action="store_true", help="as if the driver refused it")
    parser.add_argument(
        "--refuse-rowwise", action="store_true", help="as if the card had no row-wise FP8 product"
    )
    parser.add_argument("--limit", type=float, default=1e9, help="start nothing after SECONDS")
    parser.add_argument("--phases", help="only these phases, with commas")
    parser.add_argument("--json", type=Path, help="where the figures go")


def run(options: argparse.Namespace) -> int:
    """Measure and print; return the number of variants that failed."""
    # Without it the allocator can't reuse an evicted block for larger tensors. Read at import.
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    from bot.lab.step import run as bench_run  # noqa: PLC0415 - torch is imported only here

    return bench_run.run(options)


def main() -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    add_arguments(parser)
    return min(1, run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
