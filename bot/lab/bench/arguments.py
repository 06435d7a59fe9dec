"""Options of the benchmarks. This module imports nothing that is slow to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from bot.lab.step.options import add_arguments as add_engine_arguments

# As many as the population of the simulation knows.
_MOST_MODELS: Final = 3


def add_benchmarks(commands: Any) -> None:
    """Add `bench` and its benchmarks to the program's commands."""
    bench = commands.add_parser("bench", help="measure; figures compare only within one run")
    benches = bench.add_subparsers(dest="bench", required=True)
    response = benches.add_parser("response", help="first responses while the engine works")
    response.add_argument("--interactions", type=int, default=200)
    response.add_argument(
        "--buttons", action="store_true", help="press buttons instead of asking for pictures"
    )
    http = benches.add_parser("http", help="what the HTTP API adds to the engine's own time")
    http.add_argument("--requests", type=int, default=100)
    loaded = "instead: Discord's acknowledgements under 50 streams and 200 requests a second"
    http.add_argument("--load", type=int, metavar="SECONDS", help=loaded)
    add_engine_arguments(
        benches.add_parser("engine", help="the transformer with random weights, on a GPU")
    )
    _add_picture(benches.add_parser("picture", help="whole pictures, with a model's files"))
    _add_write(benches.add_parser("write", help="texts by the text encoder, between pictures"))
    _add_confined(benches.add_parser("confined", help="whether the engine's confinement holds"))
    _add_together(benches.add_parser("together", help="the whole bot while the engine works"))
    _add_scale(benches.add_parser("scale", help="pictures an hour with one engine and several"))
    _add_storm(
        benches.add_parser("storm", help="kill both processes at random; nothing may be lost")
    )
    soak = benches.add_parser("soak", help="many jobs in one process; nothing may pile up")
    soak.add_argument("--jobs", type=int, default=5000)
    _add_cost(benches.add_parser("cost", help="what a job costs the bot itself"))
    _add_burst(benches.add_parser("burst", help="many requests at once while the engine draws"))
    _add_simulate(benches.add_parser("simulate", help="a day of many engines, in virtual time"))
    _add_tiny(benches.add_parser("tiny", help="what the tiny model draws of held-out prompts"))


def _add_drawn(parser: argparse.ArgumentParser) -> None:
    """Add what pictures are drawn from, and in which size."""
    parser.add_argument("folder", type=Path, help="the model's files (IMAGE_MODEL_PATH)")
    parser.add_argument("--model", default="Qwen/Qwen-Image")
    parser.add_argument(
        "--random", action="store_true", help="write random files, if none are there"
    )
    parser.add_argument("--layers", type=int, help="of the random transformer (default 60)")
    parser.add_argument("--device", default="cuda", help="where random files are made")
    parser.add_argument("--size", default="1344x768", help="WIDTHxHEIGHT in pixels")


def _add_picture(parser: argparse.ArgumentParser) -> None:
    _add_drawn(parser)
    parser.add_argument("--rows", help="which rows, with commas; `load` and `switch` are two")
    parser.add_argument(
        "--switch-to", default="Qwen/Qwen-Image-2512", help="the other model of the row switch"
    )
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument(
        "--lora", metavar="FILE", type=Path, help="the 8-step Lightning file of the row lightning"
    )
    parser.add_argument(
        "--references",
        default="",
        help="WIDTHxHEIGHT of pictures for the rows edit, edit-8, edit-int8-fast and "
        "edit-lightning (its --lora: of 4 steps), with commas",
    )
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_write(parser: argparse.ArgumentParser) -> None:
    _add_drawn(parser)
    parser.add_argument("--precision", default="fp8", help="a value of IMAGE_PRECISION")
    parser.add_argument("--budgets", default="14,8", help="GiB of the card, with commas")
    parser.add_argument("--picture", action="store_true", help="also about a picture of 1024x1024")
    parser.add_argument("--letters", type=int, default=300, help="letters of the prompt")
    parser.add_argument("--tokens", type=int, default=200, help="of the answer, at most")
    parser.add_argument("--steps", type=int, default=2, help="of the pictures")
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_confined(parser: argparse.ArgumentParser) -> None:
    _add_drawn(parser)
    parser.add_argument("--precision", default="fp8", help="a value of IMAGE_PRECISION")
    parser.add_argument("--steps", type=int, default=8)


def _add_together(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--folder", type=Path, help="the model's files (IMAGE_MODEL_PATH)")
    parser.add_argument("--quality", default="fast", help="fast, standard or high")
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_scale(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--folder", type=Path, help="the model's files (IMAGE_MODEL_PATH)")
    parser.add_argument("--random", action="store_true", help="write random files to --folder")
    parser.add_argument("--engines", type=int, help="how many (default: one a card)")
    parser.add_argument(
        "--ray", action="store_true", help="engines of a Ray cluster, of RAY_ADDRESS or its own"
    )
    parser.add_argument("--jobs", type=int, default=10, help="for each engine")
    parser.add_argument("--warm", type=int, default=2, help="jobs of each engine before")
    parser.add_argument("--steps", type=int, help="instead of the model's standard")
    parser.add_argument("--precision", default="fp8", help="a value of IMAGE_PRECISION")
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_cost(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="that an engine takes for a job")
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_burst(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--within", type=float, default=10.0, help="seconds in which they come")
    parser.add_argument("--queue", type=int, default=5000, help="LIMIT_QUEUE_SIZE")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="that the engine takes for a job"
    )
    parser.add_argument("--json", type=Path, help="where the figures go")


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--engines", type=int, default=64)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument(
        "--load", type=float, default=0.9, help="of light users, as a share of what can be drawn"
    )
    parser.add_argument(
        "--slower", type=float, default=6.0, help="how many H100's times a picture takes"
    )
    parser.add_argument(
        "--heavy", type=int, help="users who always have jobs waiting (default: 3/8 of the engines)"
    )
    parser.add_argument(
        "--models",
        type=_shares,
        default=(1.0,),
        help="shares of the jobs by model, with commas: 70,20,10 are three",
    )
    parser.add_argument(
        "--switch-seconds", type=float, default=0.0, help="from one model to another"
    )
    parser.add_argument(
        "--texts", type=float, default=0.0, help="the share of requests that rewrite a prompt alone"
    )
    parser.add_argument(
        "--plain", action="store_true", help="the fair order gives way to no loaded model"
    )
    parser.add_argument("--images-a-day", type=int, default=100_000, help="each user's limit")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where the figures go")


def _shares(text: str) -> tuple[float, ...]:
    shares = tuple(float(share) for share in text.split(","))
    if not 1 <= len(shares) <= _MOST_MODELS or min(shares) <= 0:
        raise argparse.ArgumentTypeError(f"one to {_MOST_MODELS} shares, all above 0")
    return shares


def _add_storm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument(
        "--pipeline",
        choices=("quick", "tiny"),
        default="quick",
        help="what draws: one colour, at once, or the real tiny model",
    )


def _add_tiny(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=500, help="prompts (default and most 500)")
    parser.add_argument("--edits", action="store_true", help="held-out instructions instead")
    parser.add_argument("--language", action="store_true", help="what it writes instead")
    parser.add_argument("--quality", default="standard", help="fast, balanced, standard or high")
    parser.add_argument("--steps", type=int, help="instead of the quality's")
    parser.add_argument("--guidance", type=float, help="instead of the quality's")
    parser.add_argument("--reuse", type=float, help="its threshold, instead of the quality's")
    parser.add_argument("--cfg-norm", action="store_true", help="keep the norm under guidance")
    parser.add_argument("--psnr", type=int, default=32, help="prompts drawn without FP8 too")
    parser.add_argument("--sheet", type=Path, help="PNG of the first 64 pictures")
    parser.add_argument("--keep", metavar="DIR", type=Path, help="where the pictures stay")
    parser.add_argument("--pictures", metavar="DIR", type=Path, help="judge NUMBER.png of a folder")
    parser.add_argument("--prompts", metavar="FILE", type=Path, help="the prompts of --pictures")
    parser.add_argument("--write-prompts", metavar="FILE", type=Path, help="write them and stop")
    parser.add_argument("--json", type=Path, help="where the figures go")
