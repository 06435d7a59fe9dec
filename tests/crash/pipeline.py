"""A torch-free pipeline for the real engine child: small pictures, quickly, or never on request."""

from __future__ import annotations

import threading
from pathlib import Path

from PIL import Image

from bot.engine.child.backend import Drawn, LoadInfo, WrittenText
from bot.engine.options import Activity
from bot.engine.protocol import Ending

STEP_S = 0.003


class Painter:
    """Draws one-coloured pictures.

    A prompt that begins with "slow" stays at step 2 for ever, unless the model's folder has a file
    called "go" by then.
    """

    def __init__(self, model: str, folder: Path) -> None:
        self.model = model
        self.folder = folder

    def load(self, progress) -> LoadInfo:
        progress("weights", 0.5)
        return LoadInfo(self.model, "none")

    def generate(self, request, report):
        report.stage(Activity.DENOISE)
        for step in range(1, request.steps + 1):
            report.step(step, request.steps)
            slow = step == 2 and request.prompt.startswith("slow")
            if slow and not (self.folder / "go").exists():
                threading.Event().wait()
            threading.Event().wait(STEP_S)
        for index, seed in enumerate(request.seeds):
            colour = (seed % 256, seed // 256 % 256, index)
            image = Image.new("RGB", (request.width, request.height), colour)
            yield Drawn(image, {"denoise": request.steps * STEP_S})

    def write(self, request, report) -> WrittenText:
        report.stage(Activity.WRITE)
        prompt = request.prompt.partition(":")[2].strip()
        for number, piece in enumerate((prompt, ", in ", "soft light"), 1):
            report.written(piece, number)
            threading.Event().wait(STEP_S)
        return WrittenText(Ending.STOPPED, {"write": 3 * STEP_S})


def build(model: str, options) -> Painter:
    return Painter(model, options.model_path)
