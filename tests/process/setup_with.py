"""`python -m bot` whose engine draws with the small Qwen-Image-2.1 of the tests, on the CPU."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import bot.cli.smoke
from bot.app.engines import engine_options
from bot.catalogue.models import MODELS
from bot.cli.main import main
from bot.config.settings import Settings
from bot.engine.parent.process import EngineProcess

QWEN = "Qwen/Qwen-Image-2.1"
SIZE = (160, 96)


def build_engine(settings: Settings, card: Any = None, *, work_path: Path | None = None) -> Any:
    options = replace(
        engine_options(settings),
        work_path=work_path,
        pipeline="tests.engine.small_models:build_streamed",
    )
    return EngineProcess(settings.image_model_name, options=options)


if __name__ == "__main__":
    # As small as its networks are: a CPU takes minutes for a picture of the usual size.
    known: Any = MODELS
    known[QWEN] = replace(MODELS[QWEN], sizes={"7:4": SIZE})
    bot.cli.smoke.build_engine = build_engine
    sys.exit(main(sys.argv[1:]))
