"""Options of `setup`: an answer to each question. Imports nothing that is slow to import."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

TOKEN_FILE: Final = "--token-file"  # noqa: S105 - no token
ACCEPT: Final = "--accept-licence"
MODEL_PATH: Final = "--model-path"
KEEP: Final = "--keep"
KEEP_WORDS: Final = (
    "keep the published files beside what is made of them: IMAGE_PRECISION=bf16 and "
    "IMAGE_OFFLOAD=stock read them; needs almost three times the disk"
)


def add_setup(commands: Any) -> None:
    """Add `setup` to the program's commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "setup",
        help="ask for what is missing, write .env, download, draw a picture",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="ask nothing: take the usual answer wherever no option gives another",
    )
    parser.add_argument(
        TOKEN_FILE,
        metavar="FILE",
        help="a file with the bot's token, or - for standard input (never as an argument, which "
        "other users of the machine can read); DISCORD_TOKEN in the environment does as well",
    )
    parser.add_argument("--model", metavar="MODEL", help="the model, by its name or a part of it")
    parser.add_argument(
        ACCEPT, action="store_true", help="accept a licence that allows no commercial use"
    )
    parser.add_argument(
        MODEL_PATH, metavar="DIR", type=Path, help="folder of the models' files (IMAGE_MODEL_PATH)"
    )
    parser.add_argument(
        "--source",
        choices=("huggingface", "modelscope"),
        help="where the files come from (MODEL_SOURCE)",
    )
    parser.add_argument(
        "--lightning",
        action=argparse.BooleanOptionalAction,
        help="whether to get the LoRA with which the quality fast takes fewer steps",
    )
    parser.add_argument(
        "--owner",
        metavar="ID,…",
        help="Discord user ids that may use every /admin command (OWNER_IDS)",
    )
    parser.add_argument(KEEP, action="store_true", help=KEEP_WORDS)
    parser.add_argument(
        "--no-download", action="store_true", help="write .env only: no files and no picture yet"
    )
    where = "where the picture goes (default test-output)"
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("test-output"), help=where)
