"""A torch-free pipeline for the real engine child: small pictures, quickly, or slowly on request."""

from __future__ import annotations

import threading

from PIL import Image

from bot.engine.backend import Drawn, LoadInfo
from bot.engine.options import Activity

STEP_S = 0.003


class Painter:
    """Draws one-coloured pictures; a prompt that begins with "slow" never gets past step 2."""

    def __init__(self, model: str) -> None:
        self.model = model

    def load(self, progress) -> LoadInfo:
        progress("weights", 0.5)
        return LoadInfo(self.model, "none")

    def generate(self, request, report):
        report.stage(Activity.DENOISE)
        for step in range(1, request.steps + 1):
            report.step(step, request.steps)
            if step == 2 and request.prompt.startswith("slow"):
                threading.Event().wait()
            threading.Event().wait(STEP_S)
        for index, seed in enumerate(request.seeds):
            colour = (seed % 256, seed // 256 % 256, index)
            image = Image.new("RGB", (request.width, request.height), colour)
            yield Drawn(image, {"denoise": request.steps * STEP_S})


def build(model: str, options) -> Painter:
    return Painter(model)
