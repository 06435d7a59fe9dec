"""Fuzzing by coverage: `python -m tests.fuzz.run headers --seconds 3600`.

What reaches a new place of the code joins the corpus in `.fuzz`, which the next run begins with. An
input that a reader treats wrongly is kept beside it, and its traceback shown; put into
`tests/fuzz/found` it is tried by every `make test`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import atheris

CORPUS = Path(".fuzz")
_LONGEST_INPUT = 2**16
_SLOWEST_S = 5
_MOST_MIB = 2048


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, help="so many inputs, however long they take")
    options = parser.parse_args()
    with atheris.instrument_imports(
        include=[
            *("bot.pictures", "bot.engine", "bot.doctor", "bot.messages", "bot.catalogue"),
            *("bot.regions", "bot.http.uploads"),
        ]
    ):
        from tests.fuzz.every_target import TARGETS

        target = TARGETS[options.target]
        seeds = target.seeds()
    # What the first input imports is no part of its time.
    target.check(seeds[0])
    corpus = CORPUS / options.target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            f"-runs={options.runs}" if options.runs else f"-max_total_time={options.seconds}",
            f"-max_len={_LONGEST_INPUT}",
            f"-timeout={_SLOWEST_S}",
            f"-rss_limit_mb={_MOST_MIB}",
            f"-artifact_prefix={CORPUS}/{options.target}-",
            "-print_final_stats=1",
            str(corpus),
        ],
        target.check,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
