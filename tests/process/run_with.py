"""`python -m bot run` with another pipeline in its child: `run_with.py MODULE [STOP_LIMIT_S]`."""

from __future__ import annotations

import os
import sys

import bot.app.app
import bot.app.signals
from bot.app.engines import Planned
from bot.cli.main import main
from bot.engine.options import EngineOptions
from bot.engine.parent.process import EngineProcess
from storage.images import engine_folder

if __name__ == "__main__":
    options = {"pipeline": f"{sys.argv[1]}:build"}
    engine_count = int(os.environ.get("ENGINE_COUNT", "1"))
    bot.app.app.local_engines = lambda settings: [
        Planned(
            f"local-{number}",
            EngineProcess(
                settings.image_model_name,
                options=EngineOptions(
                    settings.data_dir,
                    work_path=engine_folder(settings.images_dir, f"local-{number}"),
                    confinement=settings.engine_confinement,
                    **options,
                ),
            ),
        )
        for number in range(engine_count)
    ]
    if "STOP_LIMIT_S" in os.environ:
        bot.app.signals.STOP_LIMIT_S = float(os.environ["STOP_LIMIT_S"])
    sys.exit(main(["run"]))
